"""An OpenAI-compatible server of the tests' own, which does whatever a real one might do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What to send. ``body`` may be bytes that are no JSON; ``hang`` sends nothing."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    drop: bool = False  # close the connection without a word
    cut: bool = False  # announce more bytes than are sent
    seconds: float = 0.0  # before it answers


def completion(text: str | None, finish_reason: str | None = "stop", **message: Any) -> Reply:
    """Return a whole chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}}
    choice["finish_reason"] = finish_reason
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    body = {"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage}
    return Reply(body=body)


def levels(**texts: str) -> Reply:
    """Return a completion whose text is an object of levels."""
    return completion(json.dumps({f"{name}_think_step": text for name, text in texts.items()}))


@dataclass
class Seen:
    """A request as it arrived."""

    body: dict[str, Any]
    headers: dict[str, str]
    path: str
    answered: bool = False  # all of the answer was handed to the connection

    @property
    def prompt(self) -> str:
        return str(self.body["messages"][-1]["content"])


class FakeServer:
    """Answers by ``behave(number, seen)``, number counting requests from 0."""

    def __init__(self, behave: Callable[[int, Seen], Reply]) -> None:
        self.behave = behave
        self.seen: list[Seen] = []
        self.max_in_flight = 0
        self._in_flight = 0
        self._lock = threading.Lock()
        self.released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                outer.handle(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        seen = Seen(body, {k.lower(): v for k, v in handler.headers.items()}, handler.path)
        with self._lock:
            number = len(self.seen)
            self.seen.append(seen)
            self._in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self._in_flight)
        try:
            reply = self.behave(number, seen)
            if reply.hang:
                self.released.wait(30)
            if reply.hang or reply.drop:
                handler.close_connection = True
                return
            self.released.wait(reply.seconds)
            data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            with self._lock:  # before the client can ask again
                self._in_flight -= 1
            handler.send_response(reply.status)
            for name, value in reply.headers.items():
                handler.send_header(name, value)
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(data) + (100 if reply.cut else 0)))
            handler.end_headers()
            handler.wfile.write(data)
            handler.wfile.flush()
            handler.close_connection = reply.cut
            seen.answered = reply.status == 200
        except OSError:
            pass  # the client is gone

    def __enter__(self) -> FakeServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serving(behave: Callable[[int, Seen], Reply]) -> Iterator[FakeServer]:
    with FakeServer(behave) as server:
        yield server
