"""From a completion to a journal entry, and from there to the answer that a stage gets."""

import re

from syntriever.teacher import money
from syntriever.teacher.base import CUT_OFF, EMPTY, REFUSAL, Answer, Request
from syntriever.teacher.body import Completion
from syntriever.teacher.journal import Entry, now
from syntriever.teacher.keys import normalised_url
from syntriever.teacher.settings import LiveSettings

# Prompts whose answers are read for a verdict. Other answers are used as text, word for word.
VERDICTS = frozenset({"relabel", "compare"})

# Refusals are short. A longer text that begins like one mostly goes on to answer.
LONGEST_REFUSAL = 500

_SORRY = (
    r"(?:(?:i'm|i am|we're|we are) (?:really |very |so )?(?:sorry|afraid)|sorry|(?:my )?apologies"
    r"|i apologi[sz]e)"
)
_AS_AI = r"as an? (?:ai|artificial|large language|language)[\w ]*"
_CANNOT = (
    r"i(?:'m| am)? (?:can't|cannot|can not|could not|couldn't|won't|will not|unable|not able"
    r"|not comfortable)"
)
_HELP = (
    r"(?: to)?(?: be able to)? (?:help|assist|comply|fulfil|provide|write|create|generate|produce|"
    r"answer|do that|do this|engage|discuss|share|support|respond|complete|continue|continuing)"
)
REFUSAL_START = re.compile(
    rf"(?:(?:{_SORRY}|{_AS_AI})[,.;:!—– -]*(?:but |that )?(?:{_AS_AI}[,]? )?){{0,2}}"
    rf"(?:{_CANNOT}{_HELP}|i must decline|i have to decline|i must refuse)"
)

_BEGIN, _END = (
    r"(?:<(?:think|thinking|thought)>|\[THINK\])",
    r"(?:</(?:think|thinking|thought)>|\[/THINK\])",
)
_THOUGHT = re.compile(rf"\s*{_BEGIN}.*?(?:{_END}|\Z)", re.DOTALL | re.IGNORECASE)
# Without its beginning; a mark within a line may be what the text is about.
_END_ALONE = re.compile(rf".*(?:\n[ \t]*{_END}|{_END}[ \t]*\n)", re.DOTALL | re.IGNORECASE)


def spoken(text: str) -> str:
    """Return an answer without what the model thought before it; empty if it did nothing else.

    A server that was not told how its model marks thinking leaves it in; some models write the
    closing mark alone.

    >>> spoken("<think>A fungus, or a plant?</think> Yeast is a fungus.")
    ' Yeast is a fungus.'
    """
    while thought := _THOUGHT.match(text):
        text = text[thought.end() :]
    alone = _END_ALONE.match(text)
    return text[alone.end() :] if alone else text


def refused(text: str) -> bool:
    """Tell whether a text is a refusal and nothing else. In doubt it isn't; English only.

    >>> refused("I'm sorry, I can't help with that.")
    True
    """
    plain = " ".join(text.replace("’", "'").split()).strip("\"'*_ ").lower()
    return len(plain) <= LONGEST_REFUSAL and REFUSAL_START.match(plain) is not None


def entry(
    key: str,
    request: Request,
    settings: LiveSettings,
    body: dict,
    completion: Completion,
    batch_id: str | None = None,
) -> Entry:
    """Return the journal's entry for a completion.

    Half a character (a lone surrogate), which no file can hold, becomes a question mark.
    Where the server did not count tokens they are estimated (see `money.text_tokens`).
    """
    counts = (completion.prompt_tokens, completion.completion_tokens)
    text, reason = completion.text, completion.reason
    if reason is None and text is not None:
        said = spoken(text)
        reason = REFUSAL if refused(said) else None if said.strip() else EMPTY
    return Entry(
        key=key,
        prompt=request.prompt,
        query_id=request.query_id,
        model=settings.model,
        request=body,
        text=None if text is None else text.encode("utf-8", "replace").decode("utf-8"),
        finish_reason=completion.finish_reason,
        reason=reason,
        prompt_tokens=money.prompt_tokens(request.messages) if counts[0] is None else counts[0],
        completion_tokens=(money.text_tokens(text or "") if counts[1] is None else counts[1]),
        estimated=None in counts,
        max_tokens=settings.sampling[request.prompt].max_tokens,
        batch_id=batch_id,
        created=now(),
        base_url=normalised_url(settings.base_url),
        sample=request.sample,
    )


def no_answer(key: str, request: Request, settings: LiveSettings, body: dict, reason: str) -> Entry:
    """Return the entry for a request that the server refused for what it holds: it is free."""
    return entry(key, request, settings, body, Completion(None, reason, None, 0, 0))


def answer(entry: Entry, prompt: str) -> Answer:
    """Return what a stage gets of an entry, the same whether it was asked now or long ago.

    What the model thought stays in the journal. A text that was refused or cut off is nothing to
    train on. A verdict may be readable all the same, so its text is kept beside the reason.
    """
    tokens = (entry.prompt_tokens, entry.completion_tokens)
    flawed = entry.reason in (REFUSAL, CUT_OFF)
    if entry.text is None or (flawed and prompt not in VERDICTS):
        return Answer(None, entry.reason, *tokens)
    return Answer(spoken(entry.text), entry.reason, *tokens)
