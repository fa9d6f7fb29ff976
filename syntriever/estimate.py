"""What a stage would ask its teacher, and what that would cost, before a single request."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from syntriever import params, teacher_choice
from syntriever.files import read_jsonl
from syntriever.teacher import journal, money
from syntriever.teacher.base import Request
from syntriever.teacher.journal import Journal
from syntriever.teacher.recorded import TEXT_FIELDS
from syntriever.teacher.recorded_queries import QUERY_FIELDS
from syntriever.teacher.settings import LiveSettings

# Tokens of an answer where no recorded one can be measured. A verdict is a word or two.
GUESSES = {
    "write_situation": 60,
    "write_direct": 25,
    "write_claim": 35,
    "cot": 300,
    "positive": 300,
    "negative": 300,
    "relabel": 4,
    "compare": 6,
}

# Which field of a recorded answer is the text that answers which prompt.
FIELDS = QUERY_FIELDS | TEXT_FIELDS


@dataclass
class Estimate:
    """What one prompt takes; tokens are those of the answers that are still to be asked for.

    Attributes:
        calls: answers that the stage needs.
        journalled: of these, how many the journal holds.
        prompt_tokens: estimated from the messages.
        expected: tokens of answers as long as usual.
        at_most: tokens of answers as long as max_tokens allows; None where nothing limits them.
    """

    calls: int = 0
    journalled: int = 0
    prompt_tokens: int = 0
    expected: int = 0
    at_most: int | None = 0

    @property
    def to_ask(self) -> int:
        """Answers that are not in the journal."""
        return self.calls - self.journalled


def estimate(
    requests: Iterable[Request], settings: LiveSettings, usual: dict[str, int], path: Path
) -> dict[str, Estimate]:
    """Return an estimate for each prompt of the requests, none of which is asked.

    Args:
        requests: of one stage.
        settings: of the live teacher.
        usual: tokens of a usual answer, by prompt.
        path: the journal; looked into only where it exists.
    """
    estimates: dict[str, Estimate] = defaultdict(Estimate)
    with ExitStack() as stack:
        answers = stack.enter_context(Journal(path)) if path.exists() else None
        for request in requests:
            one = estimates[request.prompt]
            max_tokens = settings.sampling[request.prompt].max_tokens
            one.calls += 1
            if answers and answers.current(journal.key(settings, request), max_tokens):
                one.journalled += 1
                continue
            one.prompt_tokens += money.prompt_tokens(request.messages)
            one.expected += min(usual[request.prompt], max_tokens or usual[request.prompt])
            one.at_most = None if max_tokens is None else one.at_most + max_tokens
    return dict(estimates)


def total(estimates: Iterable[Estimate]) -> Estimate:
    """Return the sum."""
    whole = Estimate()
    for one in estimates:
        whole.calls += one.calls
        whole.journalled += one.journalled
        whole.prompt_tokens += one.prompt_tokens
        whole.expected += one.expected
        known = whole.at_most is not None and one.at_most is not None
        whole.at_most = whole.at_most + one.at_most if known else None
    return whole


def usual_tokens(recorded: Path) -> dict[str, int]:
    """Return the mean length of the recorded answers to each prompt, in tokens, else a guess."""
    lengths = defaultdict(list)
    if recorded.exists():
        for record in read_jsonl(recorded):
            for prompt, field in FIELDS.items():
                if isinstance(record.get(field), str) and record[field]:
                    lengths[prompt].append(money.text_tokens(record[field]))
    return GUESSES | {prompt: round(sum(all_) / len(all_)) for prompt, all_ in lengths.items()}


def report(
    requests: Iterable[Request],
    chosen: params.AnyTeacher,
    runtime: params.RuntimeTeacher,
    reasks: int = 0,
) -> Iterator[str]:
    """Yield the lines that a stage prints for `--estimate`."""
    recorded = teacher_choice.recorded_file(chosen)
    usual = usual_tokens(recorded)
    found = estimate(requests, teacher_choice.live_settings(chosen), usual, journal.default_path())
    whole = total(found.values())
    if not whole.calls:
        yield "There is nothing to ask: 0 calls, at no cost."
        return
    if chosen.backend == "recorded":
        yield "teacher.backend is recorded: nothing is asked or paid. A live teacher would take:"
    yield _row("prompt", "calls", "in journal", "to ask", "tokens in", "tokens out", "at most")
    for name, one in [*found.items(), ("all", whole)]:
        at_most = "no limit" if one.at_most is None else one.at_most
        yield _row(
            name, one.calls, one.journalled, one.to_ask, one.prompt_tokens, one.expected, at_most
        )
    yield from _notes(found, usual, recorded)
    if reasks:
        yield f"Unclear answers are asked again: up to {reasks} more for each (teacher.reasks)."
    yield from _costs(whole, runtime, reasks)


def _row(name: str, *numbers: int | str) -> str:
    cells = [f"{one:,}" if isinstance(one, int) else one for one in numbers]
    return f"{name:16}" + "".join(f"{cell:>16}" for cell in cells)


def _notes(found: dict[str, Estimate], usual: dict[str, int], recorded: Path) -> Iterator[str]:
    written = [name for name in found if name in FIELDS]
    lengths = ", ".join(f"{name} {usual[name]}" for name in found)
    measured = any(usual[name] != GUESSES[name] for name in written)
    source = f"as in {recorded}" if measured else "a guess"
    yield f"Tokens out: a usual answer has so many ({source}): {lengths}. At most: max_tokens each."
    yield f"A token is taken for {money.BYTES_PER_TOKEN} bytes: rather too many than too few."


def _costs(whole: Estimate, runtime: params.RuntimeTeacher, reasks: int) -> Iterator[str]:
    price_input, price_output = runtime.price_input, runtime.price_output
    if price_input is None or price_output is None:
        yield (
            "Cost: unknown, not nothing. Set runtime.teacher.price_input and price_output to the "
            "USD per million tokens of your model's price list (0 for a server of your own)."
        )
        return
    from syntriever.teacher.batch import DISCOUNT  # late: it imports the client

    prices = money.Prices(price_input, price_output)
    expected = prices.cost(whole.prompt_tokens, whole.expected)
    most = "no limit"
    for mode, share in (("live", 1.0), ("batch", DISCOUNT)):
        if whole.at_most is not None:
            once = prices.cost(whole.prompt_tokens, whole.at_most)
            most = f"at most ${once * (1 + reasks) * share:,.2f}"
        yield f"Cost, {mode}: ${expected * share:,.2f} expected, {most}"
