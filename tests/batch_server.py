"""A server that speaks OpenAI's files and batches endpoints over real HTTP, with faults on demand.

It checks what the real one checks, counts all that it is asked, and knows which requests it has
been paid for more than once.
"""

import json
import random
import re
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

KEY = "the-secret-of-the-tests"


@dataclass(frozen=True)
class Fault:
    """What happens to one call instead of, or after, its being carried out.

    Attributes:
        status, words, code, headers: the error that is answered.
        reset: drop the connection without an answer.
        after: carry the call out first, so that only its answer is lost.
        cut: send half of the right answer, then drop the connection.
    """

    status: int = 500
    words: str = "The server had an error"
    code: str | None = None
    headers: dict = field(default_factory=dict)
    reset: bool = False
    after: bool = False
    cut: bool = False


@dataclass(frozen=True)
class Plan:
    """What becomes of one batch.

    Attributes:
        status: its last status: completed, expired, failed or cancelled.
        finished: how many of its requests get an answer; None is all.
        errors: of a failed batch, each {"code": …, "message": …}.
        reverse: write the output from the last request to the first.
        unknown: add an answer to a request that nobody made.
        polls: after how many looks it is done.
    """

    status: str = "completed"
    finished: int | None = None
    errors: tuple[dict, ...] = ()
    reverse: bool = False
    unknown: bool = False
    polls: int = 1


def completion(text: str | None, finish: str = "stop", **more: object) -> dict:
    """Return the body of a chat completion; five tokens each way."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": finish,
            }
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10},
    } | more


def echo(body: dict) -> tuple[int, dict]:
    """Answer each request with what was said last."""
    return 200, completion("re: " + body["messages"][-1]["content"])


def refusal(status: int, words: str, code: str | None = None) -> tuple[int, dict]:
    """Return an error as the server answers it to one request of a batch."""
    return status, {"error": {"message": words, "type": "invalid_request_error", "code": code}}


@dataclass
class _Batch:
    order: int
    plan: Plan
    lines: list[dict]
    object: dict
    looks: int = 0


class BatchServer:
    """The server; a context manager. All counters may be read while it runs.

    Attributes:
        url: to be given to a client, with /v1.
        calls: how often each endpoint was called: upload, create, list, retrieve, cancel, content.
        faults: by endpoint, what happens to the next calls.
        fault_rate: the share of calls that meet a random fault.
        plans: what becomes of the next batches; the default is `plan`.
        answer: body of one request -> (status, body of its answer).
        answered: how often each request (its messages) was answered with status 200.
        hashes: how often each content hash was accepted in a batch's metadata.
        files: by id.
        max_file_bytes, max_requests, max_open_requests: the server's limits; the last stands for
            the limit of enqueued tokens.
        longest_page: batches on a page of the list.
        key: the only one that is let in.
        on_call: is told of each call before it is carried out.
    """

    def __init__(self, seed: int = 0) -> None:
        self.calls: Counter[str] = Counter()
        self.faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self.fault_rate = 0.0
        self.plans: deque[Plan] = deque()
        self.plan = Plan()
        self.answer: Callable[[dict], tuple[int, dict]] = echo
        self.answered: Counter[str] = Counter()
        self.hashes: Counter[str] = Counter()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, _Batch] = {}
        self.max_file_bytes = 200_000_000
        self.max_requests = 50_000
        self.max_open_requests = 10**9
        self.longest_page = 100
        self.key = KEY
        self.on_call: Callable[[str], None] = lambda endpoint: None
        self._random = random.Random(seed)
        self._lock = threading.RLock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> "BatchServer":
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def twice(self) -> dict[str, int]:
        """The requests that were, or will be, answered and so paid for more than once."""
        with self._lock:
            paid = Counter(self.answered)
            for batch in self.batches.values():
                if batch.object["status"] in OPEN and batch.plan.status != "failed":
                    paid.update(_messages(line) for line in batch.lines[: batch.plan.finished])
        return {messages: count for messages, count in paid.items() if count > 1}

    @property
    def sizes(self) -> list[int]:
        """How many requests each batch had, in the order of creation."""
        return [len(batch.lines) for batch in self.batches.values()]

    def next_fault(self, endpoint: str) -> Fault | None:
        """Count a call and return what is to happen to it."""
        with self._lock:
            self.calls[endpoint] += 1
            if self.faults[endpoint]:
                return self.faults[endpoint].popleft()
            if self._random.random() < self.fault_rate:
                return self._random.choice(RANDOM_FAULTS)
        return None

    def carry_out(self, endpoint: str, argument: dict | str | bytes) -> tuple[int, dict | bytes]:
        """Carry one call out; returns (status, body)."""
        with self._lock:
            return getattr(self, f"_{endpoint}")(argument)

    def _upload(self, form: dict) -> tuple[int, dict]:
        if form.get("purpose") != b"batch":
            return refusal(400, "purpose must be batch")
        if len(form["file"]) > self.max_file_bytes:
            return refusal(400, "File is too large.")
        name = f"file-{len(self.files)}"
        self.files[name] = form["file"]
        return 200, {"id": name, "object": "file", "bytes": len(form["file"]), "purpose": "batch"}

    def _create(self, wish: dict) -> tuple[int, dict]:
        assert wish["endpoint"] == "/v1/chat/completions" and wish["completion_window"] == "24h"
        if wish["input_file_id"] not in self.files:
            return refusal(400, f"Cannot find file {wish['input_file_id']}")
        lines = [json.loads(line) for line in self.files[wish["input_file_id"]].splitlines()]
        order = len(self.batches)
        plan = self._validate(lines) or (self.plans.popleft() if self.plans else self.plan)
        batch = {
            "id": f"batch_{order}",
            "object": "batch",
            "endpoint": wish["endpoint"],
            "completion_window": "24h",
            "created_at": 1_700_000_000 + order,
            "status": "validating",
            "input_file_id": wish["input_file_id"],
            "output_file_id": None,
            "error_file_id": None,
            "metadata": wish.get("metadata"),
            "errors": None,
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
        }
        self.batches[batch["id"]] = _Batch(order, plan, lines, batch)
        if plan.status != "failed":
            self.hashes[(wish.get("metadata") or {}).get("syntriever")] += 1
        return 200, batch

    def _validate(self, lines: list[dict]) -> Plan | None:
        ids = [line["custom_id"] for line in lines]
        assert all(0 < len(one) <= 64 for one in ids), "a custom_id has 1 to 64 characters"
        assert all(set(line) == {"custom_id", "method", "url", "body"} for line in lines)
        assert len({line["body"]["model"] for line in lines}) == 1, "one model a batch"
        in_queue = sum(len(b.lines) for b in self.batches.values() if b.object["status"] in OPEN)
        if len(set(ids)) < len(ids):
            return _failed("duplicate_custom_id", "custom_ids are not unique")
        if len(lines) > self.max_requests:
            return _failed("too_many_tasks", "too many requests in the file")
        if in_queue + len(lines) > self.max_open_requests:
            return _failed("token_limit_exceeded", "Enqueued token limit reached for gpt-test.")
        return None

    def _list(self, query: dict) -> tuple[int, dict]:
        newest_first = sorted(self.batches.values(), key=lambda batch: -batch.order)
        names = [batch.object["id"] for batch in newest_first]
        start = names.index(query["after"][0]) + 1 if "after" in query else 0
        length = min(int(query.get("limit", ["20"])[0]), self.longest_page)
        page = newest_first[start : start + length]
        return 200, {
            "object": "list",
            "data": [batch.object for batch in page],
            "last_id": page[-1].object["id"] if page else None,
            "has_more": start + len(page) < len(names),
        }

    def _retrieve(self, name: str) -> tuple[int, dict]:
        if name not in self.batches:
            return refusal(404, f"No batch found with id '{name}'")
        batch = self.batches[name]
        batch.looks += 1
        if batch.object["status"] in OPEN:
            batch.object["status"] = "in_progress"
            if batch.looks >= batch.plan.polls:
                self._finish(batch)
        return 200, batch.object

    def _finish(self, batch: _Batch) -> None:
        plan, lines = batch.plan, batch.lines
        batch.object["status"] = plan.status
        if plan.status == "failed":
            batch.object["errors"] = {"object": "list", "data": list(plan.errors)}
            return
        count = len(lines) if plan.finished is None else plan.finished
        good, bad = [], []
        for line in lines[:count]:
            status, body = self.answer(line["body"])
            self.answered[_messages(line)] += status == 200
            response = {"status_code": status, "request_id": "r", "body": body}
            (good if status == 200 else bad).append(_line(line["custom_id"], response, None))
        if plan.status == "expired":
            error = {"code": "batch_expired", "message": "could not be executed in time"}
            bad += [_line(line["custom_id"], None, error) for line in lines[count:]]
        if plan.unknown:
            good.insert(1, _line("f" * 40, good[0]["response"], None))
        for kind, entries in (("output", good), ("error", bad)):
            if entries:
                name = f"{batch.object['id']}-{kind}"
                entries = entries[::-1] if plan.reverse else entries
                self.files[name] = "".join(json.dumps(one) + "\n" for one in entries).encode()
                batch.object[f"{kind}_file_id"] = name

    def _cancel(self, name: str) -> tuple[int, dict]:
        batch = self.batches[name]
        batch.object["status"] = "cancelled"
        return 200, batch.object

    def _content(self, name: str) -> tuple[int, dict | bytes]:
        return (200, self.files[name]) if name in self.files else refusal(404, f"No file {name}")


OPEN = ("validating", "in_progress", "finalizing")
RANDOM_FAULTS = (
    Fault(),
    Fault(status=429, words="Slow down", headers={"Retry-After": "0.01"}),
    Fault(status=503, words="Overloaded"),
    Fault(reset=True),
    Fault(reset=True, after=True),
    Fault(cut=True),
)


def _messages(line: dict) -> str:
    return json.dumps(line["body"]["messages"])


def _failed(code: str, message: str) -> Plan:
    return Plan("failed", errors=({"code": code, "message": message, "line": None, "param": None},))


def _line(custom_id: str, response: dict | None, error: dict | None) -> dict:
    return {"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": error}


ROUTES = (
    ("POST", r"/v1/files", "upload"),
    ("GET", r"/v1/files/([^/]+)/content", "content"),
    ("POST", r"/v1/batches", "create"),
    ("GET", r"/v1/batches", "list"),
    ("GET", r"/v1/batches/([^/]+)", "retrieve"),
    ("POST", r"/v1/batches/([^/]+)/cancel", "cancel"),
)


def _route(method: str, path: str) -> tuple[str | None, ...]:
    """Return an endpoint's name, and the id in the path where it has one."""
    for known, pattern, endpoint in ROUTES:
        match = re.fullmatch(pattern, path)
        if match and known == method:
            return endpoint, *match.groups()
    return (None,)


def _handler(server: BatchServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = urlparse(self.path)
            endpoint, *names = _route(self.command, url.path)
            if endpoint is None:
                return self._send(*refusal(404, f"Unknown request URL: {self.path}"))
            if self.headers.get("Authorization") != f"Bearer {server.key}":
                return self._send(*refusal(401, "Incorrect API key provided", "invalid_api_key"))
            server.on_call(endpoint)
            fault = server.next_fault(endpoint)
            if fault is None or fault.after or fault.cut:
                argument = names[0] if names else _argument(self, raw, url.query)
                answer = server.carry_out(endpoint, argument)
            if fault is None:
                self._send(*answer)
            elif fault.cut:
                self._send(*answer, cut=True)
            elif fault.reset:
                self.close_connection = True
            else:
                self._send(*refusal(fault.status, fault.words, fault.code), headers=fault.headers)

        def _send(
            self, status: int, body: dict | bytes, headers: dict | None = None, cut: bool = False
        ) -> None:
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw[: len(raw) // 2] if cut else raw)
            self.close_connection = self.close_connection or cut

        do_GET = do_POST = _serve

    return Handler


def _argument(request: BaseHTTPRequestHandler, raw: bytes, query: str) -> dict:
    """Read a call's query, JSON body or multipart form."""
    kind = request.headers.get("Content-Type", "")
    if kind.startswith("multipart/form-data"):
        message = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + raw)
        return {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in message.get_payload()
        }
    return json.loads(raw) if raw else parse_qs(query)
