"""What determines an answer, as one hash."""

import hashlib
import json
from collections.abc import Sequence
from urllib.parse import urlsplit

from syntriever.errors import SyntrieverError
from syntriever.teacher.base import Request
from syntriever.teacher.settings import LiveSettings

OPENAI_URL = "https://api.openai.com/v1"


def normalised_url(base_url: str | None) -> str:
    """Return the base URL as requests use it: without a last slash, a bare host with /v1.

    >>> normalised_url("http://localhost:8000/")
    'http://localhost:8000/v1'

    Raises:
        SyntrieverError: it is no URL, or holds a password or a query.
    """
    if base_url is None:
        return OPENAI_URL
    parts = urlsplit(base_url.strip())
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise SyntrieverError(
            "teacher.base_url is no address such as http://localhost:8000/v1. Mend it in params."
        )
    if "@" in parts.netloc or parts.query:
        raise SyntrieverError(
            "teacher.base_url holds a user, a password or a query; it is written to files, so it "
            "may hold no secret. Put the key into the environment variable OPENAI_API_KEY."
        )
    path = parts.path.rstrip("/").removesuffix("/chat/completions").rstrip("/") or "/v1"
    return f"{parts.scheme}://{parts.netloc.lower()}{path}"


def key(settings: LiveSettings, request: Request) -> str:
    """Return the hash of all that determines an answer, but for the limit of its length."""
    return hash_of(
        normalised_url(settings.base_url),
        settings.model,
        request.messages,
        settings.sampling[request.prompt].temperature,
        settings.seed,
        request.sample,
    )


def hash_of(
    base_url: str,
    model: str,
    messages: Sequence[dict],
    temperature: float | None,
    seed: int | None,
    sample: int,
) -> str:
    """Return a key's SHA-256, in hex digits, from its parts."""
    parts = {
        "base_url": base_url,
        "model": model,
        "messages": list(messages),
        "temperature": None if temperature is None else float(temperature),
        "seed": seed,
        "sample": sample,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
