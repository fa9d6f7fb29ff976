"""What each of the paper's tables takes with its own encoder and schedule, as a table:
python benchmarks/table_costs.py

Nothing is run. Counted are the rows with published values that have the paper's data, under the
presets `paper_schedule` and, but for the table of encoders, `e5`. A question that rows share is
asked once, a training that they share is done once. All training queries are counted, whatever
becomes dev. Tokens and prices, one for all teachers: see teacher_costs.py.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import teacher_costs  # noqa: E402

import stages  # noqa: E402
from syntriever import params  # noqa: E402
from syntriever.tables import overrides, rows  # noqa: E402

# Assumed of one data-centre GPU and an encoder of 110M parameters; not measured.
TRAINED_A_SECOND = 200  # passages
ENCODED_A_SECOND = 2000

SIZES = {name.lower().replace(" ", ""): size for name, size in teacher_costs.COLLECTIONS.items()}
# Pairs of a training query and a labelled passage, the rows of stage 1 (Table 1 of BEIR).
LABELLED = {
    "scifact": 920,
    "nfcorpus": 110_575,
    "fiqa": 14_166,
    "hotpotqa": 170_000,
    "fever": 140_085,
    "nq": 132_803,
    "msmarco": 532_761,
}
JOINED = {"msmarco-nq": ("msmarco", "nq")}
PASSAGES = {name: size[1] for name, size in SIZES.items()} | {
    "trec-covid": 171_332,
    "arguana": 8_674,
    "webis-touche2020": 382_545,
    "quora": 522_931,
    "cqadupstack": 457_199,
    "dbpedia-entity": 4_635_922,
    "climate-fever": 5_416_593,
    "scidocs": 25_657,
}
# Table 11: for so many questions one passage is written, and this one and the labelled one are
# judged, by a prompt as long as the check's, with an answer of at most so many tokens.
DERIVED, DERIVED_TOKENS = 1000, 32
DECIDES_STAGE1 = ("encoder.", "teacher.model", "synthesize.", "verify.", "loss.distill")


@dataclass
class Work:
    """What the rows of one table take on one collection."""

    texts: set[tuple] = field(default_factory=set)
    """Teacher and prompt: one call a training query each."""
    pairs: dict[tuple, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    """Stage 1 and the teacher that compares -> K -> N."""
    stage1: dict[tuple, int] = field(default_factory=dict)
    """What decides a stage 1 -> passages encoded in its training, a labelled passage."""
    stage2: dict[tuple, int] = field(default_factory=dict)
    """What decides a stage 2 -> passages encoded in its training, a query."""
    untrained: set[str] = field(default_factory=set)
    targets: set[str] = field(default_factory=set)

    def add(self, values: dict[str, object], system: str) -> None:
        """Add one row: its params and the system that it shows."""
        self.untrained.add(values["encoder.name"])
        if system == "untrained":
            return
        recipe = tuple(f"{n}={v}" for n, v in values.items() if n.startswith(DECIDES_STAGE1))
        texts = 1 + values["synthesize.cot"] + 2 * values["synthesize.passages"]
        self.stage1[recipe] = values["train_stage1.epochs"] * texts
        self.texts |= {(values["teacher.model"], prompt) for prompt in _prompts(values)}
        if system == "stage2":
            self._align(recipe, values)

    def _align(self, recipe: tuple, values: dict[str, object]) -> None:
        k = values["mine_pairs.top_k"]
        n = values["mine_pairs.pairs"] or _all_pairs(k)
        asked = self.pairs[(*recipe, values["mine_pairs.model"])]
        asked[k] = max(n, asked.get(k, 0))
        aligned = (*recipe, k, n, values["mine_pairs.model"], values["loss.align"])
        self.stage2[aligned] = values["train_stage2.epochs"] * k

    def calls(self) -> dict[str, int]:
        """Calls a training query, by prompt; of comparisons at most so many."""
        found = dict.fromkeys(("cot", "positive", "negative", "relabel", "compare"), 0)
        for _, prompt in self.texts:
            found[prompt] += 1
        found["compare"] = sum(map(_most_pairs, self.pairs.values()))
        return found

    def gpu_hours(self, parts: Iterable[str]) -> float:
        """Hours to train all encoders on the collections joined, to encode what each searches."""
        trained = sum(
            sum(self.stage1.values()) * LABELLED[part] + sum(self.stage2.values()) * SIZES[part][0]
            for part in parts
        )
        searched = sum(PASSAGES[name] for name in (*parts, *self.targets))
        encoders = len(self.untrained) + len(self.stage1) + len(self.stage2)
        return (trained / TRAINED_A_SECOND + encoders * searched / ENCODED_A_SECOND) / 3600


def _all_pairs(k: int) -> int:
    return k * (k - 1) // 2


def _most_pairs(asked: dict[int, int]) -> int:
    """How many pairs are asked at most, by K: all pairs of a small K are among those of a large."""
    whole = max((k for k, n in asked.items() if n == _all_pairs(k)), default=0)
    drawn = sum(n for k, n in asked.items() if n < _all_pairs(k))
    return min(_all_pairs(whole) + drawn, _all_pairs(max(asked)))


def _prompts(values: dict[str, object]) -> list[str]:
    texts = ["positive", "negative"] if values["synthesize.passages"] else []
    checks = ["relabel"] if texts and values["verify.mode"] != "skip" else []
    return texts + checks + (["cot"] if values["synthesize.cot"] else [])


def works(name: str) -> dict[str, Work]:
    """Return the work of a table's published rows, by the collection that is trained on. A row that
    names no encoder has the paper's, E5."""
    book, base = rows.load(ROOT / rows.FOLDER), params.load_all(ROOT / params.PARAMS_FILE)
    encoders = {preset for preset, values in book.presets.items() if "encoder.name" in values}
    found: dict[str, Work] = defaultdict(Work)
    for row in book.table(name).rows:
        encoder = [] if encoders.intersection(row.uses) else ["e5"]
        table = book.table(name).with_presets(["paper_schedule", *encoder])
        for column in row.published if "paper" in row.uses else []:
            trained_on = row.trained_on or column
            values = overrides.resolve(base, book.overrides(table, row, trained_on), row.name)
            found[trained_on].add(values, row.system)
            found[trained_on].targets |= {column} - {trained_on}
    return found


def line(name: str) -> list[str]:
    """Return one table's line."""
    calls = into = out = hours = 0
    trained_on = works(name)
    for collection, work in trained_on.items():
        parts = JOINED.get(collection, (collection,))
        hours += work.gpu_hours(parts)
        for part in parts:
            queries, _, *words = SIZES[part]
            tokens = teacher_costs.tokens(*words)
            for prompt, times in work.calls().items():
                calls += queries * times
                into += queries * times * tokens[prompt][0]
                out += queries * times * tokens[prompt][1]
    return [
        name.removeprefix("table"),
        ", ".join(trained_on),
        *_counts(calls, into, out),
        f"{hours:,.1f}",
    ]


def derived() -> list[str]:
    """Return the line of Table 11, which trains nothing."""
    written, judged = (
        teacher_costs.tokens(*SIZES["hotpotqa"][2:])[prompt] for prompt in ("positive", "relabel")
    )
    into = DERIVED * (written[0] + 2 * judged[0])
    out = DERIVED * (written[1] + 2 * DERIVED_TOKENS)
    return ["11", "–", *_counts(3 * DERIVED, into, out), "–"]


def _counts(calls: int, into: int, out: int) -> list[str]:
    money = teacher_costs.PRICES.cost(into, out)
    return [f"{calls:,}", f"{into / 1e6:,.1f} M", f"{out / 1e6:,.1f} M", f"{money:,.0f}"]


def table() -> str:
    """Return the table as Markdown."""
    prices = teacher_costs.PRICES
    heads = ["table", "trained on", "calls", "tokens in", "tokens out"]
    heads += [f"USD at {prices.input:.2f} in, {prices.output:g} out", "GPU hours"]
    lines = [heads, ["---", "---"] + ["---:"] * (len(heads) - 2)]
    lines += [line(f"table{number}") for number in range(1, 11)]
    lines.append(derived())
    return "\n".join("| " + " | ".join(one) + " |" for one in lines)


if __name__ == "__main__":
    stages.run(lambda: print(table()))
