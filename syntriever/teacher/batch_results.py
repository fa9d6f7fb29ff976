"""What batches brought: answers for the journal, or why there are none yet."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from syntriever.teacher import reading
from syntriever.teacher.base import Request
from syntriever.teacher.batch_api import BatchApi
from syntriever.teacher.body import BrokenBodyError, read_completion
from syntriever.teacher.journal import Entry, Journal
from syntriever.teacher.money import Prices
from syntriever.teacher.retry import NoAnswer, Policy, Stop
from syntriever.teacher.settings import LiveSettings, Sampling
from syntriever.teacher.spool import Item, Spool

AT_ONCE = 200  # answers that are committed together


@dataclass(frozen=True)
class Unanswered:
    """No answer this time.

    Attributes:
        words: the server's own.
        advice: what is to be mended before anything is sent again; None: just send it again.
    """

    words: str
    advice: str | None = None


def read_result(
    line: dict, item: Item, batch_id: str, settings: LiveSettings, api: BatchApi
) -> Entry | Unanswered:
    """Read the line of an output or error file that is about `item`.

    Status 200 is read as a live answer is, and so is any other: a content filter or an overlong
    prompt leaves the request without an answer, for good; what passes is to be sent again.
    """
    response = line.get("response")
    if not isinstance(response, dict) or not response.get("status_code"):
        error = line.get("error") or response or "the batch says nothing of it"
        words = error.get("message") if isinstance(error, dict) else None
        return Unanswered(api.clean(words or error))
    status, answer = response["status_code"], response.get("body")
    body = json.loads(item.body)
    asked = (_request(item, body), _settings(item, body, settings), body)
    if status == 200:
        try:
            return reading.entry(item.key, *asked, read_completion(answer), batch_id)
        except BrokenBodyError as error:
            return Unanswered(str(error))
    error = answer.get("error") or answer if isinstance(answer, dict) else answer
    failure = api.failure(status, error)
    verdict = Policy().after(failure, attempt=1)
    if isinstance(verdict, NoAnswer):
        return replace(reading.no_answer(item.key, *asked, verdict.reason), batch_id=batch_id)
    return Unanswered(str(failure), verdict.advice if isinstance(verdict, Stop) else None)


def max_tokens(body: dict) -> int | None:
    """Return a request's limit of tokens, whichever field it is in."""
    return body.get("max_completion_tokens", body.get("max_tokens"))


def _request(item: Item, body: dict) -> Request:
    return Request(item.prompt, tuple(body["messages"]), item.query_id, "", (), item.sample)


def _settings(item: Item, body: dict, settings: LiveSettings) -> LiveSettings:
    """The settings that `item` was sent with: those of an earlier run may have been others."""
    sampling = {item.prompt: Sampling(body.get("temperature"), max_tokens(body))}
    return replace(settings, model=body["model"], sampling=sampling)


class ResultFile:
    """Brings the lines of batches' output and error files into the journal, each once.

    Attributes:
        answered: answers that came.
        usd: what they have cost.
        last_words: why a request was left without an answer, the last time that happened.
    """

    def __init__(
        self,
        spool: Spool,
        journal: Journal,
        api: BatchApi,
        settings: LiveSettings,
        prices: Prices,
        say: Callable[[str], None],
    ) -> None:
        """Take `prices` as those of a batch."""
        self._spool, self._journal, self._api = spool, journal, api
        self._settings, self._prices, self._say = settings, prices, say
        self.answered = 0
        self.usd = 0.0
        self.last_words = "none"

    def read(self, path: Path, content_hash: str, batch_id: str) -> Unanswered | None:
        """Read a file; return the first result, if any, after which asking makes no sense.

        Results are matched to requests by custom_id, whatever their order. Answers to requests that
        the batch did not hold, and lines that are no JSON, are told of and not used.
        """
        stop: Unanswered | None = None
        unknown = unreadable = 0
        group: dict[str, tuple[Item, Entry]] = {}
        with path.open("rb") as lines:
            for raw in lines:
                line = _parsed(raw)
                if line is None:
                    unreadable += bool(raw.strip())
                    continue
                item = self._spool.find(content_hash, str(line.get("custom_id")))
                if item is None or item.key in group:
                    unknown += 1
                elif not item.done:
                    result = read_result(line, item, batch_id, self._settings, self._api)
                    if isinstance(result, Entry):
                        group[item.key] = (item, result)
                    else:
                        self.last_words = result.words
                        stop = stop or (result if result.advice else None)
                if len(group) == AT_ONCE:
                    self._keep(group, batch_id)
        self._keep(group, batch_id)
        self._report(batch_id, unknown, unreadable)
        return stop

    def _keep(self, group: dict[str, tuple[Item, Entry]], batch_id: str) -> None:
        """Commit answers; then, and only then, note that their requests are done."""
        fresh, usd = [], 0.0
        for item, entry in group.values():
            before = self._journal.get(item.key)
            if before is not None and before.batch_id == batch_id:
                continue  # killed between the two commits
            usd += self._prices.cost(entry.prompt_tokens, entry.completion_tokens)
            self.answered += 1
            # An answer that came on another way may be in use already: it stays.
            if before is None or before.outgrown(entry.max_tokens):
                fresh.append(entry)
        self._journal.put(fresh, usd)
        self.usd += usd
        self._spool.mark_done((key, _outgrown(*both)) for key, both in group.items())
        group.clear()

    def _report(self, batch_id: str, unknown: int, unreadable: int) -> None:
        if unknown:
            self._say(
                f"{batch_id} answered {unknown} requests that it did not hold (unknown or doubled "
                "custom_id); these answers are not used."
            )
        if unreadable:
            self._say(f"{batch_id} has {unreadable} lines that are not JSON; they are passed over.")


def _parsed(raw: bytes) -> dict | None:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def _outgrown(item: Item, entry: Entry) -> bool:
    """Whether the limit, which this run has changed since, may bring another answer."""
    if item.next_body is None:
        return False
    return entry.outgrown(max_tokens(json.loads(item.next_body)))
