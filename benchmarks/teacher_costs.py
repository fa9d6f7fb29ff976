"""What the paper's recipe would ask a live teacher on BEIR's collections, as a table:
python benchmarks/teacher_costs.py

Nothing is asked. Counted are all training queries: three texts and a verdict for each, and the ten
comparisons of K = 5. Answers are taken to be as long as the recorded ones for SciFact, queries and
passages as long as Table 1 of BEIR (Thakur et al., 2021) says, at two tokens a word.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from syntriever import estimate, prompts  # noqa: E402
from syntriever.teacher import money  # noqa: E402

# Training queries, passages, words of a passage, words of a query.
COLLECTIONS = {
    "SciFact": (809, 5_183, 213.6, 12.4),
    "NFCorpus": (2_590, 3_633, 232.3, 3.3),
    "FiQA": (5_500, 57_638, 132.3, 10.8),
    "HotpotQA": (85_000, 5_233_329, 46.3, 17.6),
    "FEVER": (109_810, 5_416_568, 84.8, 8.1),
    "NQ": (132_803, 2_681_468, 78.9, 9.2),
    "MS MARCO": (502_939, 8_841_823, 56.0, 6.0),
}
TOKENS_PER_WORD = 2
COMPARISONS = 10
PRICES = money.Prices(2.5, 10)


def words(count: float) -> str:
    """Return a text of about so many words, in tokens."""
    return "x" * round(count * TOKENS_PER_WORD * money.BYTES_PER_TOKEN)


def tokens(passage: float, query: float) -> dict[str, tuple[int, int]]:
    """Return the tokens in and out of one call, by prompt, for passages and queries of so many
    words."""
    answers = estimate.usual_tokens(ROOT / "data/teacher/scifact.jsonl")
    asked, shown = words(query), words(passage)
    positive = "x" * answers["positive"] * money.BYTES_PER_TOKEN
    fields = {name: {"query": asked} for name in ("cot", "positive", "negative")}
    fields["relabel"] = {"query": asked, "passage": positive}
    fields["compare"] = {"query": asked, "passage_1": shown, "passage_2": shown}
    return {
        name: (money.prompt_tokens(prompts.messages(_template(name), **filled)), answers[name])
        for name, filled in fields.items()
    }


def _template(name: str) -> prompts.Template:
    return prompts.load(name, ROOT / "prompts")


def tokens_a_query(passage: float, query: float) -> tuple[int, int]:
    """Return the tokens in and out that one training query takes, all its calls together."""
    calls = tokens(passage, query)
    times = {name: COMPARISONS if name == "compare" else 1 for name in calls}
    return tuple(sum(times[name] * calls[name][i] for name in calls) for i in (0, 1))


def table() -> str:
    """Return the table as Markdown."""
    heads = ["", "training queries", "calls", "tokens in", "tokens out"]
    heads += [f"USD at {PRICES.input:.2f} in, {PRICES.output:g} out"]
    heads += ["calls of written queries, two a passage"]
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1)]
    for name, (queries, passages, passage, query) in COLLECTIONS.items():
        into, out = (queries * tokens for tokens in tokens_a_query(passage, query))
        lines.append(
            [
                name,
                f"{queries:,}",
                f"{queries * (4 + COMPARISONS):,}",
                f"{into / 1e6:.1f} M",
                f"{out / 1e6:.1f} M",
                f"{PRICES.cost(into, out):,.0f}",
                f"{2 * passages:,}",
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    print(table())
