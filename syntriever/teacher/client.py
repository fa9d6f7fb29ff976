"""One request to a server that speaks OpenAI's chat completions, over the official client."""

import asyncio
import json
import math
import re
import time
from collections.abc import Mapping

import httpx2
import openai

from syntriever.errors import SyntrieverError
from syntriever.teacher import retry
from syntriever.teacher.body import BrokenBodyError, Completion, read_completion
from syntriever.teacher.keys import OPENAI_URL, normalised_url
from syntriever.teacher.retry import Failure

LONGEST_WORDS = 500  # characters of a server's message that are shown
NO_KEY = "none"  # the client wants one; a server of one's own mostly doesn't
# The client's pool of connections looks at each of them for each request, so pools are kept small.
REQUESTS_PER_POOL = 8
KEY_LIKE = re.compile(r"\bsk-[\w*.-]{6,}")


class Client:
    """Sends a request once. Whatever goes wrong comes back as a value, without the key in it."""

    def __init__(
        self, base_url: str | None, api_key: str | None, timeout_s: float, concurrency: int = 1
    ) -> None:
        """Open no connection yet; needs a running event loop only in `ask`.

        Args:
            base_url: see `LiveSettings`.
            api_key: None or blank for a server that wants none.
            timeout_s: seconds for the whole answer, however slowly it drips.
            concurrency: how many requests are in flight at most.

        Raises:
            SyntrieverError: OpenAI's own server is to be asked without a key, or the key holds
                what no key can.
        """
        self._key = checked_key(api_key, base_url)
        self._timeout_s = timeout_s
        self._clients = [
            openai.AsyncOpenAI(
                api_key=self._key or NO_KEY,
                base_url=normalised_url(base_url),  # given, so that no environment variable decides
                max_retries=0,  # ours is the only retry loop
                timeout=timeout_s,
            )
            for _ in range(math.ceil(concurrency / REQUESTS_PER_POOL))
        ]
        self._free = self._clients * REQUESTS_PER_POOL

    async def ask(self, body: Mapping[str, object]) -> Completion | Failure:
        """Send the body of one request; return the answer, or why there is none."""
        client = self._free.pop()
        try:
            async with asyncio.timeout(self._timeout_s):
                # Not chat.completions.create, whose checks of every field cost as much CPU time as
                # all else: the body is ours, and the answer is checked in `body`.
                response = await client.post(
                    "/chat/completions",
                    content=json.dumps(body).encode(),  # in ASCII, whatever characters it holds
                    cast_to=httpx2.Response,
                    options={"headers": {"Content-Type": "application/json"}},
                )
            return self._read(response.text)
        except (TimeoutError, openai.APITimeoutError):
            return Failure(retry.TIMEOUT, f"no whole answer within {self._timeout_s:g} s")
        except openai.APIStatusError as error:
            return self._status(error.status_code, error.body, error.response)
        except openai.APIConnectionError as error:
            return self._broken(error)
        except openai.OpenAIError as error:
            return Failure(retry.CONNECTION, self._clean(f"{type(error).__name__}: {error}"))
        finally:
            self._free.append(client)

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            await client.close()

    def _broken(self, error: openai.APIConnectionError) -> Failure:
        cause = error.__cause__
        name = type(cause).__name__
        reached = name not in ("ConnectError", "ConnectTimeout", "PoolTimeout")
        kind = retry.CONNECTION if reached else retry.UNREACHED
        return Failure(kind, self._clean(f"{name}: {cause}" if cause else str(error)))

    def _read(self, text: str) -> Completion | Failure:
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            return Failure(retry.BODY, self._clean(f"an answer that is not JSON: {text[:80]!r}"))
        error = answer.get("error") if isinstance(answer, dict) else None
        if error and not answer.get("choices"):  # some gateways send errors with status 200
            status = error.get("code") if isinstance(error, dict) else None
            if isinstance(status, int) and 400 <= status < 600:
                return self._status(status, error, None)
            return Failure(retry.BODY, self._words(error))
        try:
            return read_completion(answer)
        except BrokenBodyError as broken:
            return Failure(retry.BODY, self._clean(str(broken)))

    def _status(self, status: int, body: object, response: object) -> Failure:
        headers = {} if response is None else response.headers
        return Failure(
            retry.STATUS,
            self._words(body or getattr(response, "text", "")),
            status,
            _codes(body),
            retry.retry_after(headers, time.time()),
        )

    def _words(self, body: object) -> str:
        words = body
        if isinstance(body, dict):
            words = body.get("message") or body.get("detail") or body.get("error") or body
        return self._clean(words if isinstance(words, str) else json.dumps(words, default=str))

    def _clean(self, text: str) -> str:
        """`text` on one line, not too long, and without anything that looks like a key."""
        if self._key:
            text = text.replace(self._key, "[key]")
        text = KEY_LIKE.sub("[key]", " ".join(text.split()))
        return text[:LONGEST_WORDS] or "(no words)"


def checked_key(api_key: str | None, base_url: str | None) -> str:
    """Return the key without white space around it; empty if there is none.

    Raises:
        SyntrieverError: it is missing though OpenAI's server wants one, or no header can hold it.
    """
    key = (api_key or "").strip()
    if not key and normalised_url(base_url) == OPENAI_URL:
        raise SyntrieverError(
            "the teacher is OpenAI's own server, and there is no key: set the environment variable "
            "OPENAI_API_KEY, or teacher.base_url to another server."
        )
    if not re.fullmatch(r"[!-~]*", key):
        raise SyntrieverError(
            "the key in the environment variable OPENAI_API_KEY holds a space, a line break or a "
            "letter that no key has. Set it again."
        )
    return key


def _codes(body: object) -> frozenset[str]:
    if not isinstance(body, dict):
        return frozenset()
    inner = body.get("innererror")
    found = [body.get("code"), body.get("type")]
    found += [inner.get("code")] if isinstance(inner, dict) else []
    return frozenset(str(one).lower() for one in found if one is not None)
