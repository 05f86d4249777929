"""Loopback stand-ins of three model APIs: scripted answers, so that real programs really work.

A script is what the model does, turn by turn; which turn it is follows from the request's own
history, so a repeated or resumed request gets the same answer. Faults come first, each once.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Say:
    """The model says something and ends its turn."""

    text: str


@dataclass(frozen=True)
class Write:
    """The model writes a file."""

    path: str
    content: str


@dataclass(frozen=True)
class Read:
    """The model reads a file."""

    path: str


@dataclass(frozen=True)
class Run:
    """The model runs a command."""

    command: str


@dataclass(frozen=True)
class Answer:
    """The model gives its answer by the schema, or fenced where the API has none."""

    fields: Json


@dataclass(frozen=True)
class Fault:
    """The API refuses the request."""

    status: int
    body: Json
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Hang:
    """The API accepts the request and is silent for so long."""

    seconds: float = 600.0


Turn = Say | Write | Read | Run | Answer | Fault | Hang
Script = Callable[[int, str], Turn]
"""The answer to turn `n` of the conversation that begins with that prompt."""


def script(*turns: Turn) -> Script:
    """Those turns one after another; the last one is repeated."""
    return lambda n, prompt: turns[min(n, len(turns) - 1)]


@dataclass(frozen=True)
class Request:
    """What a program has asked."""

    path: str
    headers: Mapping[str, str]
    body: Json


class StandIn:
    """One server for the three APIs. `requests` are those of the model's main conversation."""

    def __init__(self, answers: Script) -> None:
        self.answers = answers
        self.faults: list[Fault | Hang] = []
        self.every: Fault | None = None
        """Refuses every request while it is set."""
        self.requests: list[Request] = []
        self.streams: dict[str, str] = {}
        self.tokens = (1000, 50, 200)
        """Input, output and cached tokens of each request."""
        self.ended = threading.Event()
        self.open = threading.Event()
        """Requests wait until it is set."""
        self.open.set()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the test prints what it needs."""

            def do_HEAD(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                _send_json(self, 426 if self.headers.get("Upgrade") else 404, {}, {})

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"{}")
                try:
                    owner.answer(self, body)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def is_asked(self) -> bool:
        """Whether any request has come."""
        return bool(self.requests)

    def answer(self, handler: BaseHTTPRequestHandler, body: Json) -> None:
        """Answer one request as the API that it is sent to."""
        api = _api(handler.path)
        if api is None:
            return _send_json(handler, 404, {"error": {"message": "no such path"}}, {})
        if api.is_auxiliary(body):
            return api.send(handler, body, Say("ok"), (1, 1, 0))
        self.requests.append(Request(handler.path, dict(handler.headers), body))
        turn: Turn = self.every or (
            self.faults.pop(0) if self.faults else self.answers(*api.place(body))
        )
        while not self.open.wait(0.1) and not self.ended.is_set():
            pass
        if isinstance(turn, Hang):
            self.ended.wait(turn.seconds)
            handler.close_connection = True
            return None
        if isinstance(turn, Fault):
            return _send_json(handler, turn.status, turn.body, turn.headers)
        return api.send(handler, body, turn, self.tokens)


@contextmanager
def stand_in(answers: Script) -> Iterator[StandIn]:
    """A stand-in that serves until the block ends."""
    server = StandIn(answers)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _api(path: str) -> "Anthropic | OpenAi | Gemini | None":
    if path.startswith("/v1/messages"):
        return None if "count_tokens" in path else Anthropic()
    if path.rstrip("/").endswith("/responses"):
        return OpenAi()
    return Gemini(":stream" in path) if "enerateContent" in path else None


def _send_json(
    handler: BaseHTTPRequestHandler, status: int, body: Json, headers: Mapping[str, str]
) -> None:
    data = json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", **headers}.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def _send_events(handler: BaseHTTPRequestHandler, events: Sequence[tuple[str, Json]]) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.send_header("Connection", "close")
    handler.end_headers()
    for name, event in events:
        line = f"event: {name}\n" if name else ""
        handler.wfile.write(f"{line}data: {json.dumps(event)}\n\n".encode())
        handler.wfile.flush()
    handler.close_connection = True


Tokens = tuple[int, int, int]


class Anthropic:
    """`POST /v1/messages`."""

    def is_auxiliary(self, body: Json) -> bool:
        return not body.get("tools")

    def place(self, body: Json) -> tuple[int, str]:
        messages = body["messages"]
        return sum(each["role"] == "assistant" for each in messages), json.dumps(messages[0])

    def send(self, handler: BaseHTTPRequestHandler, body: Json, turn: Turn, tokens: Tokens) -> None:
        block, reason = self._block(turn)
        given, taken, cached = tokens
        usage = {
            "input_tokens": given - cached,
            "output_tokens": taken,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": 0,
        }
        message = {
            "id": f"msg_{time.monotonic_ns()}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "stop_sequence": None,
        }
        if not body.get("stream"):
            whole = {**message, "content": [block], "stop_reason": reason, "usage": usage}
            return _send_json(handler, 200, whole, {})
        first = {
            **message,
            "content": [],
            "stop_reason": None,
            "usage": {**usage, "output_tokens": 1},
        }
        if block["type"] == "text":
            start = {**block, "text": ""}
            delta = {"type": "text_delta", "text": block["text"]}
        else:
            start = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        ended = {"stop_reason": reason, "stop_sequence": None}
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": first},
            {"type": "content_block_start", "index": 0, "content_block": start},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": ended, "usage": {"output_tokens": taken}},
            {"type": "message_stop"},
        ]
        return _send_events(handler, [(str(event["type"]), event) for event in events])

    def _block(self, turn: Turn) -> tuple[dict[str, Any], str]:
        match turn:
            case Write(path, content):
                name, given = "Write", {"file_path": path, "content": content}
            case Read(path):
                name, given = "Read", {"file_path": path}
            case Run(command):
                name, given = "Bash", {"command": command, "description": "Run it"}
            case Answer(fields):
                name, given = "StructuredOutput", dict(fields)
            case _:
                return {"type": "text", "text": _text(turn)}, "end_turn"
        called = f"toolu_{time.monotonic_ns()}"
        return {"type": "tool_use", "id": called, "name": name, "input": given}, "tool_use"


class OpenAi:
    """`POST /v1/responses`."""

    def is_auxiliary(self, body: Json) -> bool:
        return False

    def place(self, body: Json) -> tuple[int, str]:
        items = body["input"]
        calls = sum(item.get("type") in ("function_call", "custom_tool_call") for item in items)
        said = sum(item.get("role") == "assistant" for item in items)
        return calls + said, json.dumps([item for item in items if item.get("role") == "user"])

    def send(self, handler: BaseHTTPRequestHandler, body: Json, turn: Turn, tokens: Tokens) -> None:
        item = self._item(turn)
        given, taken, cached = tokens
        usage = {
            "input_tokens": given,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": taken,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": given + taken,
        }
        response = {"id": f"resp_{time.monotonic_ns()}", "model": body["model"]}
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": response},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {
                "type": "response.completed",
                "response": {**response, "status": "completed", "output": [item], "usage": usage},
            },
        ]
        return _send_events(handler, [(str(event["type"]), event) for event in events])

    def _item(self, turn: Turn) -> dict[str, Any]:
        match turn:
            case Write(path, content):
                command = f"cat > {path} <<'END'\n{content.rstrip()}\nEND"
            case Read(path):
                command = f"cat {path}"
            case Run(command):
                pass
            case _:
                said = json.dumps(turn.fields) if isinstance(turn, Answer) else _text(turn)
                part = {"type": "output_text", "text": said, "annotations": []}
                kind = {"type": "message", "role": "assistant", "status": "completed"}
                return {**kind, "id": f"msg_{time.monotonic_ns()}", "content": [part]}
        return {
            "type": "function_call",
            "id": f"fc_{time.monotonic_ns()}",
            "call_id": f"call_{time.monotonic_ns()}",
            "name": "exec_command",
            "arguments": json.dumps({"cmd": command}),
            "status": "completed",
        }


class Gemini:
    """`POST /v1beta/models/MODEL:generateContent` and its stream."""

    def __init__(self, is_stream: bool) -> None:
        self._is_stream = is_stream

    def is_auxiliary(self, body: Json) -> bool:
        return not body.get("tools")

    def place(self, body: Json) -> tuple[int, str]:
        contents = body["contents"]
        return sum(each["role"] == "model" for each in contents), json.dumps(contents[0])

    def send(self, handler: BaseHTTPRequestHandler, body: Json, turn: Turn, tokens: Tokens) -> None:
        given, taken, cached = tokens
        usage = {
            "promptTokenCount": given,
            "candidatesTokenCount": taken,
            "cachedContentTokenCount": cached,
            "totalTokenCount": given + taken,
        }
        content = {"role": "model", "parts": [self._part(turn)]}
        candidate = {"content": content, "finishReason": "STOP", "index": 0}
        model = handler.path.rpartition("/")[2].partition(":")[0]
        whole = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model}
        if self._is_stream:
            return _send_events(handler, [("", whole)])
        return _send_json(handler, 200, whole, {})

    def _part(self, turn: Turn) -> dict[str, Any]:
        match turn:
            case Write(path, content):
                call: Json = {
                    "name": "write_file",
                    "args": {"file_path": path, "content": content},
                }
            case Read(path):
                call = {"name": "read_file", "args": {"file_path": path}}
            case Run(command):
                call = {"name": "run_shell_command", "args": {"command": command}}
            case _:
                return {"text": _text(turn)}
        return {"functionCall": {"id": f"fc_{time.monotonic_ns()}", **call}}


def _text(turn: Turn) -> str:
    if isinstance(turn, Answer):
        return f"Done.\n\n```json\n{json.dumps(turn.fields, indent=2)}\n```\n"
    assert isinstance(turn, Say), turn
    return turn.text
