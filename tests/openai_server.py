"""A server that speaks OpenAI's chat completions over real HTTP, with faults on demand.

It counts every request and knows of each answer whether all of it was sent. As a script it serves
until it is killed, and prints its port: python tests/openai_server.py --latency 0.2
"""

import argparse
import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

REASONS = {200: "OK", 400: "Bad Request", 429: "Too Many Requests", 500: "Internal Server Error"}


@dataclass(frozen=True)
class Reply:
    """What is sent: a status and a body; `wire` is how (see `Server._send`).

    `broken`: whole though it is, nobody can read an answer out of it.
    """

    status: int = 200
    body: dict | str = ""
    headers: dict = field(default_factory=dict)
    wire: str = "whole"
    broken: bool = False


@dataclass
class Call:
    """One request: its body and headers, when it came, and whether a whole answer was sent."""

    path: str
    body: dict
    headers: dict
    time: float
    status: int = 0
    sent: bool = False

    @property
    def asked(self) -> str:
        """The text that was asked."""
        return self.body["messages"][-1]["content"]


def completion(text: str | None, finish: str = "stop", usage: tuple | None = (10, 5)) -> dict:
    """A chat completion of one choice; `usage` is (prompt tokens, completion tokens)."""
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "stub",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish,
                "message": {"role": "assistant", "content": text},
            }
        ],
    }
    if usage is not None:
        prompt, answered = usage
        answer["usage"] = {
            "prompt_tokens": prompt,
            "completion_tokens": answered,
            "total_tokens": prompt + answered,
        }
    return answer


def error(status: int, message: str, code: object = None, kind: str = "error", **headers) -> Reply:
    """An error as OpenAI words it; header names are given with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"error": {"message": message, "type": kind, "code": code}}, named)


def answered(body: dict) -> str:
    """The text that this server answers."""
    return f"Answer to: {body['messages'][-1]['content']}"


# Each fault, as the body that was asked -> reply.
FAULTS: dict[str, Callable[[dict], Reply]] = {
    "429": lambda body: error(429, "Rate limit reached", "rate_limit_exceeded"),
    "429 wait": lambda body: error(429, "Rate limit reached", retry_after="0.05"),
    "500": lambda body: error(500, "The server had an error"),
    "503": lambda body: Reply(503, "<html>Service Unavailable</html>"),
    "stall": lambda body: Reply(wire="stall"),
    "reset": lambda body: Reply(body=completion(answered(body)), wire="reset"),
    "drop": lambda body: Reply(wire="drop"),
    "drip": lambda body: Reply(body=completion(answered(body)), wire="drip"),
    "malformed": lambda body: Reply(body=json.dumps(completion(answered(body)))[:-20], broken=True),
    "html": lambda body: Reply(body="<html>gateway</html>", broken=True),
}
# Answers that arrive whole and hold no text: not to be asked again.
NO_TEXT: dict[str, Callable[[dict], Reply]] = {
    "empty choices": lambda body: Reply(body=completion("") | {"choices": []}),
    "filtered": lambda body: Reply(body=completion(None, "content_filter")),
    "filter 400": lambda body: error(400, "flagged by our policy", "content_filter"),
    "long 400": lambda body: error(400, "maximum context length is 9", "context_length_exceeded"),
}


class Server:
    """Serves from a thread of its own while the `with` block lasts.

    Attributes:
        reply: (body, how many times this text was asked before) -> Reply, dict or None; None is
            the ordinary answer, a dict a completion.
        latency: seconds before each answer.
        record: False keeps no list of calls (for benchmarks).
    """

    def __init__(
        self,
        reply: Callable[[dict, int], "Reply | dict | None"] | None = None,
        latency: float = 0.0,
        record: bool = True,
    ) -> None:
        self.reply = reply or (lambda body, before: None)
        self.latency = latency
        self.record = record
        self.calls: list[Call] = []
        self.total = 0
        self.most_at_once = 0
        self._at_once = 0
        self._before: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "Server":
        self._thread.start()
        start = asyncio.start_server(self._connection, "127.0.0.1", 0, limit=2**20, backlog=1000)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_) -> None:
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _shut(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def root(self) -> str:
        """Its address, without /v1."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"{self.root}/v1"

    def sent(self) -> Counter[str]:
        """How many times each text had its final answer sent whole."""
        return Counter(call.asked for call in self.calls if call.sent and call.status in (200, 400))

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = [line.partition(":")[::2] for line in head[1:] if line]
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        path = head[0].split()[1]
        call = Call(path, json.loads(content or b"{}"), headers, time.monotonic())
        self.total += 1
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        if self.record:
            self.calls.append(call)
        try:
            if self.latency:
                await asyncio.sleep(self.latency)
            return await self._send(call, self._reply(call), reader, writer)
        finally:
            self._at_once -= 1

    def _reply(self, call: Call) -> Reply:
        if call.path != "/v1/chat/completions":
            return error(404, f"no such path: {call.path}")
        before = 0
        if self.record:
            before = self._before[call.asked]
            self._before[call.asked] += 1
        reply = self.reply(call.body, before)
        if isinstance(reply, Reply):
            return reply
        return Reply(body=reply or completion(answered(call.body)))

    async def _send(self, call: Call, reply: Reply, reader, writer) -> bool:
        if reply.wire == "stall":
            await reader.read()  # until the client goes
            return False
        if reply.wire == "drop":
            writer.transport.abort()
            return False
        body = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
        data = body.encode()
        kind = "application/json" if data[:1] == b"{" else "text/html"
        lines = [f"HTTP/1.1 {reply.status} {REASONS.get(reply.status, 'Other')}"]
        lines += [f"content-type: {kind}", f"content-length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        call.status = reply.status
        if reply.wire == "reset":
            writer.write(data[: len(data) // 2])
            await writer.drain()
            await asyncio.sleep(0.01)  # so that the half is on its way before the reset
            writer.transport.abort()
            return False
        if reply.wire == "drip":
            for byte in data:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.1)
        else:
            writer.write(data)
            await writer.drain()
        call.sent = not reply.broken
        return True


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.0)
    with Server(latency=parser.parse_args().latency, record=False) as server:
        print(server.port, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
