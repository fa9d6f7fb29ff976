"""Fills the templates in prompts/ and reads the teacher's answers.

Passages, queries and answers are data: none of them can act as a template, and a passage is never
looked at when an answer is read. Answers are read strictly: what does not plainly say one thing
says nothing (None), since a guess would be a vote for one side.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from syntriever import paths
from syntriever.errors import SyntrieverError
from syntriever.files import read_json, unreadable

SIDECAR = "prompts.json"

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")


@dataclass(frozen=True)
class Template:
    """The text of one prompt, with placeholders such as {query}."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        """The prompt's name, as requests carry it: `cot` for prompts/cot.txt."""
        return self.path.stem

    @property
    def sha256(self) -> str:
        """The hash of the text, in hexadecimal, as it stands in prompts.json."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()


def load(name: str, folder: Path = paths.PROMPTS) -> Template:
    """Read the template of one prompt.

    Raises:
        SyntrieverError: the file is missing, blank or not UTF-8.
    """
    path = Path(folder) / f"{name}.txt"
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise SyntrieverError(
            f"{path} does not exist. Restore it with `git checkout -- {path}`."
        ) from None
    except OSError as error:
        raise unreadable(path, error) from None
    except UnicodeDecodeError as error:
        raise SyntrieverError(f"{path} is not UTF-8 ({error.reason}). Convert it.") from None
    if not text.strip():
        raise SyntrieverError(f"{path} is blank. It must hold the text of the prompt.")
    return Template(path, text)


def fill(template: Template, **fields: str) -> str:
    """Put the fields in place of their placeholders, in one pass: braces in a field stay text.

    >>> fill(Template(Path("cot.txt"), "Question: {query}"), query="What is {query}?")
    'Question: What is {query}?'

    Raises:
        SyntrieverError: the template has a placeholder without a field, or lacks one for a field.
    """
    found = set(_PLACEHOLDER.findall(template.text))
    for name in sorted(found - fields.keys()):
        known = ", ".join(f"{{{field}}}" for field in fields)
        raise SyntrieverError(
            f"{template.path}: {{{name}}} is no placeholder of this prompt, which has {known}. "
            "Rename it or take it out."
        )
    for name in sorted(fields.keys() - found):
        raise SyntrieverError(
            f"{template.path}: the placeholder {{{name}}} is missing. "
            "Put it where that text belongs."
        )
    return _PLACEHOLDER.sub(lambda match: fields[match[1]], template.text)


def messages(template: Template, **fields: str) -> tuple[dict, ...]:
    """Return the filled template as a chat of one user message."""
    return ({"role": "user", "content": fill(template, **fields).strip()},)


def changed_since_recording(
    recorded: Path, names: Iterable[str], folder: Path = paths.PROMPTS
) -> Iterator[str]:
    """Yield a warning for each of these prompts whose text is not the one that was answered.

    The SHA-256 of each template stands in prompts.json beside the file of recorded answers: under
    that file's name, else at the top. Without a hash there is nothing to compare with, and no
    warning.
    """
    sidecar = Path(recorded).parent / SIDECAR
    if not sidecar.exists():
        return
    hashes = _recorded_hashes(sidecar)
    hashes = hashes.get(Path(recorded).name, hashes)
    for name in names:
        template = load(name, folder)
        if name in hashes and hashes[name] != template.sha256:
            yield (
                f"{template.path} has changed since the answers in {recorded} were recorded; "
                "they still answer the old text."
            )


def _recorded_hashes(sidecar: Path) -> dict:
    """Read prompts.json: hashes by prompt, or by file and prompt.

    Raises:
        SyntrieverError: it is no JSON object, or holds anything else.
    """
    hashes = read_json(sidecar)
    for name, value in hashes.items():
        for one in value.values() if isinstance(value, dict) else [value]:
            if not (isinstance(one, str) and re.fullmatch("[0-9a-f]{64}", one)):
                raise SyntrieverError(
                    f"{sidecar}: {name} must hold a SHA-256 in hexadecimal for each prompt, found "
                    f"{one!r:.80}. Restore the file, or take {name} out: then nothing is compared."
                )
    return hashes


# What takes back or withholds an answer, wherever it stands.
_WITHHELD = re.compile(
    r"\bsorry\b|\bundecided\b|\bno preference\b|\ba tie\b|\bneither (?:yes|no)\b"
    r"|\bnot sure\b|\bunsure\b|\bunclear\b|\bhard to (?:say|tell|judge)\b"
    r"|\b(?:cannot|can't) be (?:said|told|decided|determined|judged)\b"
    r"|(?:^|[^\w\s]\s*|\n|\b(?:i|we)(?:'m| am| are)? |\bit(?:'s| is) )"
    r"(?:cannot|can't|couldn't|won't|unable to|not able to|not possible to|impossible to)"
    r" (?:\w+ly )?(?:say|tell|choose|decide|determine|judge|pick|answer|help|assist|compare"
    r"|evaluate|assess|comply|comment|provide)\b"
    r"|\bequally (?:relevant|good|bad|useful|helpful|well|suitable|irrelevant)\b"
    r"|\bwait\b|\bscratch that\b|\bcorrection\b|\bon second thoughts?\b|(?:^|[^\w\s]\s*)actually\b"
)
_SENTENCE_END = re.compile(r"([.;!?]+(?=\s|$)|\n+)")
_BUT = re.compile(r"(?<!thing )\bbut\b")
_NEGATED = re.compile(
    r"\b(?:no|not|never|neither|nor|none|hardly|cannot|less|least|worse|worst|wrong)\b|n't\b"
    r"|\b(?:if|unless|whether|might|may|could|perhaps|maybe|possibly|both|either|equally)\b"
    r"|\b(?:says|said|tells|told|asks|instructs|claims|demands|wants)\b"
)
# "no" is a verdict at a clause's end or before a mark or a reason; in "no doubt" it is none.
_YES_OR_NO = re.compile(
    r"\b(yes(?!-\w)|no(?=\W*$|\s*[,:)(–—]|\s+-\s|\s+(?:because|since|as|it|the|this|that|these)\b))\b"
)
_LABELLED_VERDICT = re.compile(
    r"(?:\b(?:answer|verdict|conclusion|decision|judge?ment|response)"
    r"(?:\s*(?:is|would be|[:=–—-]))+|\bi(?:'d| would) say)\W*" + _YES_OR_NO.pattern
)
_NOT_RELEVANT = re.compile(
    r"\b(?:irrelevant|inaccurate)\b"
    r"|(?:\bnot|n't)\b[^.;\n]{0,30}\b(?:relevant|accurate|address|answer)\b"
)


def read_yes_no(text: str | None) -> bool | None:
    """Read the answer to prompts/relabel: True for yes, False for no, None where it is unclear.

    >>> read_yes_no("**Yes.** It is accurate."), read_yes_no("Hard to say.")
    (True, None)
    """
    plain = _plain(text or "").lower()
    if _WITHHELD.search(plain):
        return None
    # The prompt's own words, and an abbreviation.
    plain = re.sub(r"\byes\s?(?:or|/)\s?no\b|\bno\.\s?(?=\d)", " ", plain)
    clauses = list(_clauses(plain))
    said = [match[1] for clause in clauses for match in _verdicts(clause)]
    # Another yes or no, even in passing, makes the answer unclear.
    every = {word for clause in clauses for word in _YES_OR_NO.findall(clause)}
    if not said or len(every) > 1:
        return None
    if said[0] == "yes" and _NOT_RELEVANT.search(plain):
        return None
    return said[0] == "yes"


def _verdicts(clause: str) -> Iterator[re.Match]:
    """The yes or no that a clause begins with, or that it names as the answer."""
    start = re.match(r"\W*", clause).end()
    if leading := _YES_OR_NO.match(clause, start):
        yield leading
    for match in _LABELLED_VERDICT.finditer(clause):
        if not _NEGATED.search(clause, 0, match.start(1)):
            yield match


_NOUN = r"(?i:passage|paragraph|document|text|option|candidate)"
_PASSAGE = re.compile(
    rf"\b{_NOUN}\s*(?i:number|no\.?)?\s*[#(\[]?\s*([12]|[AB]|(?i:one|two))\b(?!\.?\d|'s)[)\]]?"
    r"|(?<!\w)#([12])\b(?!\.?\d|'s)"
    rf"|\b(?i:the\s+)?\b((?i:first|1st|second|2nd))\s+(?:{_NOUN}|(?i:one))\b"
)
_SECOND = {"2", "b", "two", "second", "2nd"}
_BARE = re.compile(
    r"\W*(?:(?:final |my |the )*(?:answer|choice)\b(?:\s*(?:is|[:=–—-]))*)?\W*"
    r"(1|2|a|b|one|two|(?:the )?(?:first|second))\W*"
)
_ALONE = re.compile(r"[^\w①②]*([①②])[^\w①②]*")
_JOINED = re.compile(r"[①②](?:\s*(?:[/,&+]|\band\b|\bor\b|\bnor\b))+\s*[①②]")
_QUALITY = (
    r"(?:(?:more|most) (?:directly |closely |clearly )?"
    r"(?:relevant|pertinent|helpful|useful|suitable|appropriate)\b"
    r"|(?:superior|preferable|best)\b"
    r"|better(?=\W*$|\W+(?:than|suited|for|because|since|as|answer|choice|fit|match|passage|one)\b))"
)
_ADVERBS = (
    r"(?:(?:the|a|much|far|by far|clearly|slightly|somewhat|significantly|definitely|also|still"
    r"|therefore|thus|overall|considerably|marginally)\s+)*"
)
_CHOICES = (
    # #1 because …; #1 over #2
    re.compile(
        r"^[^\w①②]*([①②])\W{1,4}(?:because|since|as it|as this|over|rather than|instead of"
        r"|(?=not [①②]))"
    ),
    # #1 is more relevant
    re.compile(rf"([①②])\s+(?:is|seems|appears|looks)\s+{_ADVERBS}{_QUALITY}"),
    # #1 better answers the question
    re.compile(
        r"([①②])\s+(?:more (?:directly|closely|clearly|fully)|better|best)\s+"
        r"(?:answers|addresses|fits|matches)\b"
    ),
    # I would choose #1
    re.compile(
        r"\b(?:i|we)(?:'d|'ll| would| will)?\s+(?:choose|pick|select|prefer|favou?r|go with"
        r"|vote for|opt for|go for)\s+([①②])"
    ),
    # Answer: #1; the more relevant passage is #1; I'd say #1
    re.compile(
        r"(?:\b(?:answer|choice|pick|verdict|preference|selection|conclusion"
        r"|(?:more|most) relevant(?: passage| one)?|better(?: passage| one| choice)?)"
        r"(?:\s*(?:is|would be|[:=–—-]))+|\bi(?:'d| would) say)"
        r"\s*([①②])(?=\W*$|\s*[,(]|\s+(?:because|since|as|over)\b)"
    ),
)
_DENIED = re.compile(r"\bnot\s+([①②])|([①②])\s+(?:is|does|seems|appears)(?:\s+not\b|n't\b)")


def read_choice(text: str | None) -> int | None:
    """Read the answer to prompts/compare: 1 or 2, or None where it is unclear.

    >>> read_choice("I would choose #1 because passage #2 is off topic."), read_choice("Both.")
    (1, None)
    """
    plain = _plain(text or "")
    if _WITHHELD.search(plain.lower()):
        return None
    if bare := _BARE.fullmatch(plain.lower()):
        return _number(bare[1].removeprefix("the "))
    # Each mention of a passage becomes one sign. (No other ① is left: `_plain` made it a 1.)
    marked = _PASSAGE.sub(lambda match: "①②"[_number(match[match.lastindex]) - 1], plain).lower()
    chosen, denied = set(), set()
    for clause in _clauses(marked):
        chosen |= _chosen(clause)
        denied |= {match[1] or match[2] for match in _DENIED.finditer(clause)}
    if len(chosen) != 1 or chosen & denied:
        return None
    return 1 if chosen == {"①"} else 2


def _number(name: str) -> int:
    return 2 if name.lower() in _SECOND else 1


def _chosen(clause: str) -> set[str]:
    """The passages, as ① and ②, that a clause names as the more relevant one."""
    if alone := _ALONE.fullmatch(clause):
        return {alone[1]}
    if _JOINED.search(clause) or re.search(r"\b(?:if|unless)\b", clause):
        return set()
    return {
        match[1]
        for choice in _CHOICES
        for match in choice.finditer(clause)
        if not _NEGATED.search(clause, 0, match.start(1))
        and not _NEGATED.search(clause, match.end(1), match.end())
    }


def _plain(text: str) -> str:
    """The answer without mark-up and quotations (which are others' words)."""
    text = unicodedata.normalize("NFKC", text)
    text = text.translate(str.maketrans("‘’“”", "''\"\""))
    text = re.sub(r"[*_`~]|#(?!\d)|\\boxed|\\text", "", text)
    text = re.sub(r"[^\S\n]+|[{}]", " ", text)
    # A rule or other long run of signs ends a sentence, and patterns must not crawl through it.
    text = re.sub(r"[^\w#]{12,}", lambda run: "?\n" if "?" in run[0] else "\n", text)
    return re.sub(r'"([^"\n]*)"|(?<!\w)\'([^\'\n]*)\'(?!\w)', _unquoted, text)


def _unquoted(match: re.Match) -> str:
    """A quoted answer (one or two words) or a JSON key stays, a quoted sentence goes."""
    words = match[1] if match[1] is not None else match[2]
    return words if len(words.split()) <= 2 else " … "


def _clauses(text: str) -> Iterator[str]:
    """Sentences and the parts around a 'but'; questions are left out."""
    parts = _SENTENCE_END.split(text)
    for sentence, end in zip(parts[::2], [*parts[1::2], ""], strict=True):
        if "?" not in end:
            yield from _BUT.split(sentence)
