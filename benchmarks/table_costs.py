"""What each of the paper's tables takes with its own encoder and schedule, as a table:
python benchmarks/table_costs.py

Nothing is run. Counted are the rows with published values that have the paper's data, under the
presets `paper_schedule` and, but for the table of encoders, `e5`. A question that rows share is
asked once, a training that they share is done once. Tokens and prices: see teacher_costs.py.
"""

import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import teacher_costs  # noqa: E402

from syntriever import params  # noqa: E402
from syntriever.tables import overrides, rows  # noqa: E402

# Assumed of one data-centre GPU and an encoder of 110M parameters; not measured.
TRAINED_A_SECOND = 200  # passages
ENCODED_A_SECOND = 2000
PASSAGES_A_QUERY = {"stage1": 4, "stage2": 5}

SIZES = {name.lower().replace(" ", ""): size for name, size in teacher_costs.COLLECTIONS.items()}
JOINED = {"msmarco-nq": ("msmarco", "nq")}
PASSAGES = {name: size[1] for name, size in SIZES.items()} | {  # Table 1 of BEIR
    "trec-covid": 171_332,
    "arguana": 8_674,
    "webis-touche2020": 382_545,
    "quora": 522_931,
    "cqadupstack": 457_199,
    "dbpedia-entity": 4_635_922,
    "climate-fever": 5_416_593,
    "scidocs": 25_657,
}
DECIDES_STAGE1 = ("encoder.", "teacher.model", "synthesize.", "verify.", "loss.distill")


@dataclass
class Work:
    """What the rows of one table take on one collection."""

    texts: set[tuple] = field(default_factory=set)
    """Teacher and prompt: one call a training query each."""
    pairs: dict[tuple, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    """Stage 1 and the teacher that compares -> K -> N."""
    trained: dict[tuple, int] = field(default_factory=dict)
    """What decides an encoder -> passages encoded in its training, a training query."""
    untrained: set[str] = field(default_factory=set)
    targets: set[str] = field(default_factory=set)

    def add(self, values: dict[str, object], system: str) -> None:
        """Add one row: its params and the system that it shows."""
        self.untrained.add(values["encoder.name"])
        if system == "untrained":
            return
        stage1 = tuple(f"{n}={v}" for n, v in values.items() if n.startswith(DECIDES_STAGE1))
        self.trained[stage1] = values["train_stage1.epochs"] * PASSAGES_A_QUERY["stage1"]
        self.texts |= {(values["teacher.model"], prompt) for prompt in _prompts(values)}
        if system != "stage2":
            return
        k = values["mine_pairs.top_k"]
        n = values["mine_pairs.pairs"] or k * (k - 1) // 2
        asked = self.pairs[(*stage1, values["mine_pairs.model"])]
        asked[k] = max(n, asked.get(k, 0))
        stage2 = (*stage1, k, n, values["mine_pairs.model"], values["loss.align"])
        self.trained[stage2] = values["train_stage2.epochs"] * PASSAGES_A_QUERY["stage2"]

    def calls(self) -> dict[str, int]:
        """Calls a training query, by prompt. The pairs of a small K are among all of a larger."""
        found = dict.fromkeys(("cot", "positive", "negative", "relabel", "compare"), 0)
        for _, prompt in self.texts:
            found[prompt] += 1
        for asked in self.pairs.values():
            found["compare"] += min(sum(asked.values()), max(asked) * (max(asked) - 1) // 2)
        return found

    def gpu_hours(self, queries: int, passages: int) -> float:
        """Hours to train all encoders and to encode with each what it searches."""
        trained = sum(self.trained.values()) * queries / TRAINED_A_SECOND
        searched = passages + sum(PASSAGES[target] for target in self.targets)
        encoders = len(self.untrained) + len(self.trained)
        return (trained + encoders * searched / ENCODED_A_SECOND) / 3600


def _prompts(values: dict[str, object]) -> list[str]:
    texts = ["positive", "negative"] if values["synthesize.passages"] else []
    checks = ["relabel"] if texts and values["verify.mode"] != "skip" else []
    return texts + checks + (["cot"] if values["synthesize.cot"] else [])


def works(name: str) -> dict[str, Work]:
    """Return the work of a table's published rows, by the collection that is trained on."""
    encoder = [] if name == "table4" else ["e5"]
    book, base = rows.load(ROOT / rows.FOLDER), params.load_all(ROOT / params.PARAMS_FILE)
    table = book.table(name).with_presets(["paper_schedule", *encoder])
    found: dict[str, Work] = defaultdict(Work)
    for row in table.rows:
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
        for part in JOINED.get(collection, [collection]):
            queries, passages, *lengths = SIZES[part]
            tokens = teacher_costs.tokens(lengths[0], lengths[1])
            for prompt, times in work.calls().items():
                calls += queries * times
                into += queries * times * tokens[prompt][0]
                out += queries * times * tokens[prompt][1]
            hours += work.gpu_hours(queries, passages)
            work.targets = set()  # scored on once, however many collections were joined
    money = teacher_costs.PRICES.cost(into, out)
    counts = [f"{calls:,}", f"{into / 1e6:,.0f} M", f"{out / 1e6:,.0f} M", f"{money:,.0f}"]
    return [name.removeprefix("table"), ", ".join(trained_on), *counts, f"{hours:,.1f}"]


def table() -> str:
    """Return the table as Markdown."""
    prices = teacher_costs.PRICES
    heads = ["table", "trained on", "calls", "tokens in", "tokens out"]
    heads += [f"USD at {prices.input:.2f} in, {prices.output:g} out", "GPU hours"]
    lines = [heads, ["---", "---"] + ["---:"] * (len(heads) - 2)]
    lines += [line(f"table{number}") for number in range(1, 11)]
    return "\n".join("| " + " | ".join(one) + " |" for one in lines)


if __name__ == "__main__":
    print(table())
