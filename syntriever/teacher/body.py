"""The body of a chat completion: written for a request, read from a server's answer."""

from dataclasses import dataclass

from syntriever.teacher.base import CONTENT_FILTER, CUT_OFF, EMPTY, REFUSAL, Request
from syntriever.teacher.settings import LiveSettings

# Servers' words for why an answer ended, besides OpenAI's own `stop`, `length`, `content_filter`.
CUT = frozenset(
    {"length", "max_tokens", "model_length", "model_context_window_exceeded"}
    | {"error", "abort", "network_error", "insufficient_system_resource"}  # the server broke it off
)
FILTERED = frozenset({"content_filter", "sensitive"})


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
        # servers that keep to a seed would answer another sample with the same text
        "seed": None if settings.seed is None else settings.seed + request.sample,
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
    finish = finish if isinstance(finish, str) else None
    if choice.get("error"):  # OpenRouter: a provider failed on the way
        finish = "error"
    text = _text(message.get("content"))
    text, reason = _judge(text and storable(text), message.get("refusal"), finish)
    return Completion(text, reason, finish, prompt_tokens, completion_tokens)


def _text(content: object) -> str | None:
    """The text of a message; of one in parts (Mistral's reasoning models) without the thinking."""
    if isinstance(content, list):
        return "".join(map(_part, content))
    if content is not None and not isinstance(content, str):
        raise BrokenBodyError("the message's content is no text")
    return content


def _part(part: object) -> str:
    kind = part.get("type", "text") if isinstance(part, dict) else None
    if kind in ("thinking", "reasoning"):
        return ""
    text = part.get("text") if kind in ("text", "output_text") else part
    if text is not None and not isinstance(text, str):
        raise BrokenBodyError("a part of the message's content is no text")
    return text or ""


def _judge(text: str | None, refusal: object, finish: str | None) -> tuple[str | None, str | None]:
    if finish in FILTERED:
        return None, CONTENT_FILTER
    if refusal:
        return None, REFUSAL
    if finish in CUT:
        return text or None, CUT_OFF
    if not text or not text.strip():
        return None, EMPTY
    return text, None


def _usage(usage: object) -> tuple[int | None, int | None]:
    if not isinstance(usage, dict):
        return None, None
    prompt, completion, total = (
        count if isinstance(count, int) and count >= 0 else None
        for count in map(usage.get, ("prompt_tokens", "completion_tokens", "total_tokens"))
    )
    if not prompt:  # no prompt has none: nobody counted
        return None, completion or None
    if completion is not None and total is not None:
        # xAI and Gemini count what was thought, which is paid, in the total alone
        completion = max(completion, total - prompt)
    return prompt, completion
