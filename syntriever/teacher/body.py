"""The body of a chat completion: written for a request, read from a server's answer."""

from dataclasses import dataclass

from syntriever.teacher.base import CONTENT_FILTER, CUT_OFF, EMPTY, REFUSAL, Request
from syntriever.teacher.settings import LiveSettings


class BrokenBodyError(ValueError):
    """A body that is no chat completion: the request is to be sent again."""


@dataclass(frozen=True)
class Completion:
    """What a server answered to one request.

    Attributes:
        text: the answer; None where there is none.
        reason: a constant of base.py; None for a whole answer. An answer that was cut off has
            both: its text up to there, and the reason.
        finish_reason: the server's own word.
        prompt_tokens, completion_tokens: as the server counted; None where it did not say.
    """

    text: str | None
    reason: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None


def body(settings: LiveSettings, request: Request) -> dict:
    """Return the JSON body that asks `request`; what is None is left out."""
    sampling = settings.sampling[request.prompt]
    fields = {
        "model": settings.model,
        "messages": [
            {name: storable(value) for name, value in message.items()}
            for message in request.messages
        ],
        "temperature": sampling.temperature,
        settings.max_tokens_field: sampling.max_tokens,
        "seed": settings.seed,
    }
    return {name: value for name, value in fields.items() if value is not None}


def storable(text: str) -> str:
    """Return `text` with halves of characters, which no file can hold, replaced by '?'.

    JSON can spell them, and models that are cut off in the middle of a character write them.
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def read_completion(answer: object) -> Completion:
    """Read the body of a chat completion (status 200), as parsed from JSON.

    Raises:
        BrokenBodyError: it has not the form of a chat completion.
    """
    if not isinstance(answer, dict) or not isinstance(answer.get("choices"), list):
        raise BrokenBodyError("the answer has no list of choices")
    prompt_tokens, completion_tokens = _usage(answer.get("usage"))
    if not answer["choices"]:
        return Completion(None, EMPTY, None, prompt_tokens, completion_tokens)
    choice = answer["choices"][0]
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        raise BrokenBodyError("the first choice has no message")
    message, finish = choice["message"], choice.get("finish_reason")
    text = message.get("content")
    if text is not None and not isinstance(text, str):
        raise BrokenBodyError("the message's content is no text")
    text, reason = _judge(text and storable(text), message.get("refusal"), finish)
    return Completion(text, reason, finish, prompt_tokens, completion_tokens)


def _judge(text: str | None, refusal: object, finish: str | None) -> tuple[str | None, str | None]:
    if finish == "content_filter":
        return None, CONTENT_FILTER
    if refusal:
        return None, REFUSAL
    if finish == "length":
        return text or None, CUT_OFF
    if not text or not text.strip():
        return None, EMPTY
    return text, None


def _usage(usage: object) -> tuple[int | None, int | None]:
    if not isinstance(usage, dict):
        return None, None
    counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
    return tuple(count if isinstance(count, int) and count >= 0 else None for count in counts)
