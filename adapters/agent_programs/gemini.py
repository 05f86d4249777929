"""Gemini CLI as an agent. Measured on 0.61.0.

It takes no schema, so its agent ends with a fenced notice; it tells no costs. A repository may set
variables for it and start servers: only what is listed here is kept out.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from adapters.agent_programs.probes import Asked
from adapters.agent_programs.program import (
    DENIALS_LIMIT,
    NETWORK_VARIABLES,
    TEXT_LIMIT,
    Event,
    Launch,
    ProcessEnd,
    StopStep,
    Task,
    count,
    ending_of_status,
    kept,
    name_of,
    record,
    short,
    text_of,
)
from pipeline.agent_programs import Permission, ProgramAgent, ProgramTraits
from pipeline.failures import last_lines
from pipeline.model import Ending, ProgramReport, RunEnd, Tokens
from pipeline.project_proposal import Login

POLICY = "gemini-policy.toml"

_PASSED_ON = (
    *("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL", "GOOGLE_CLOUD_PROJECT"),
    *("GOOGLE_CLOUD_LOCATION", "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_APPLICATION_CREDENTIALS"),
    *("GEMINI_CLI_HOME", *NETWORK_VARIABLES),
)
_EMPTIED = (
    *(name for name in _PASSED_ON if name != "GEMINI_CLI_HOME"),
    *("GEMINI_MODEL", "GEMINI_SANDBOX", "GOOGLE_VERTEX_BASE_URL", "CODE_ASSIST_ENDPOINT"),
)
"""What `.gemini/.env` of a repository could set otherwise."""
_VARIABLES = MappingProxyType(
    {
        # Else a launcher swallows every signal, and its child outlives it.
        "GEMINI_CLI_NO_RELAUNCH": "1",
        "GEMINI_TELEMETRY_ENABLED": "false",
    }
)
_NO_LIMIT = "it has none; bound the stage by its time instead"
_SET_LIMIT = "set model.maxSessionTurns in its own settings.json instead"
_WORDS = (
    ("daily quota", Ending.USAGE_LIMIT),
    ("exhausted your", Ending.USAGE_LIMIT),
    ("quota exceeded", Ending.USAGE_LIMIT),
    ("api key not valid", Ending.LOGIN_REFUSED),
    ("api_key_invalid", Ending.LOGIN_REFUSED),
    ("econnrefused", Ending.UNREACHABLE),
    ("fetch failed", Ending.UNREACHABLE),
)
_CODE = re.compile(r'\\?"code\\?":\s*(\d{3})\b|\bstatus:? (\d{3})\b')
_EXITS = MappingProxyType(
    {
        41: Ending.NOT_LOGGED_IN,
        42: Ending.REFUSED_START,
        44: Ending.NO_SANDBOX,
        52: Ending.REFUSED_START,
        53: Ending.TURN_LIMIT,
        55: Ending.REFUSED_START,
    }
)
_STATUSES = MappingProxyType(
    {status % 256: status for status in (400, 401, 403, 404, 429, 500, 502, 503, 504)}
)
"""An API's error ends it with the status as its exit code, of which a byte is left."""
_DENIED = ("policy_violation", "tool_not_registered")


class GeminiCli:
    """The kind `gemini`."""

    kind = "gemini"
    takes_schema = False
    traits = ProgramTraits(
        "gemini",
        {
            "max_turns": _SET_LIMIT,
            "max_budget_usd": _NO_LIMIT,
            "resume_for_fixes": "its sessions belong to one directory, and a fix has its own clone",
        },
        tested="0.61.0",
    )
    last_events: tuple[str, ...] = ('{"type":"result"',)

    def launch(self, agent: ProgramAgent, task: Task) -> Launch:
        """`gemini -o stream-json`, with a session of a chosen id.

        The clone has to be trusted, since in one that is not no tool is allowed.
        """
        rules = _policy(agent, task.outbox)
        argv = (
            *(agent.program, "-o", "stream-json", "--skip-trust"),
            *("--resume" if task.resumes else "--session-id", task.session),
            *("--approval-mode", _MODES[agent.permission]),
            *("--include-directories", str(task.run_directory)),
            *(("--policy", str(task.run_directory / POLICY)) if rules else ()),
            *(("--allowed-mcp-server-names", "none") if agent.isolation else ()),
            *(("-m", agent.model) if agent.model else ()),
            *agent.arguments,
        )
        return Launch(
            argv,
            stop=(StopStep("SIGTERM", "group", 3.0),),
            passed_on=_PASSED_ON,
            variables=_VARIABLES,
            emptied=_EMPTIED if agent.isolation else (),
            files={POLICY: rules} if rules else {},
            session=task.session,
        )

    def copyable(self, session: str, environment: Mapping[str, str]) -> str:
        """Its sessions belong to the directory of their work."""
        return ""

    def stream(self) -> "GeminiStream":
        """A reader of `-o stream-json`."""
        return GeminiStream()

    def readable(self, event: Event) -> Iterator[str]:
        """Text, tools, results and warnings."""
        match event.get("type"):
            case "init":
                yield f"» session {event.get('session_id')}, model {event.get('model')}"
            case "message" if event.get("role") == "assistant":
                yield from text_of(event.get("content")).splitlines()
            case "tool_use":
                given = json.dumps(event.get("parameters"), ensure_ascii=False)
                yield f"→ {event.get('tool_name')} {short(given)}"
            case "tool_result":
                mark = "←" if event.get("status") == "success" else "✗"
                yield f"{mark} {short(text_of(event.get('output')))}"
            case "error":
                yield f"» {short(text_of(event.get('message')))}"
            case "result":
                said = short(text_of(record(event.get("error")).get("message")), 600)
                yield f"» {event.get('status')} {said}".strip()

    def login(self, ask: Asked) -> tuple[Login, str]:
        """It has no command for its login: a key is a variable, an account's login is a file."""
        if ask.has("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI"):
            return Login.KEY, ""
        home = ask.environment.get("GEMINI_CLI_HOME") or ask.environment.get("HOME", "")
        if home and (Path(home) / ".gemini" / "oauth_creds.json").is_file():
            return Login.LOGGED_IN, ""
        return Login.NONE, "it is not logged in: export GEMINI_API_KEY, or run gemini and log in."


_MODES = MappingProxyType(
    {
        Permission.READ: "default",
        Permission.EDIT: "auto_edit",
        Permission.RUN: "auto_edit",
        Permission.EVERYTHING: "yolo",
    }
)


def _policy(agent: ProgramAgent, outbox: Path) -> str:
    """Rules in TOML that let its commands run; a JSON string is one of TOML, too.

    One that may only read may write files right into its outbox.
    """
    allowed = [("run_shell_command", "commandPrefix", command) for command in agent.commands]
    if agent.permission is Permission.READ:
        place = re.escape(json.dumps(f"{outbox}/")[:-1])
        allowed.append(("write_file", "argsPattern", f'"file_path":{place}[^"/\\\\]+"'))
    return "\n".join(
        f'[[rule]]\ntoolName = "{tool}"\n{key} = {json.dumps(value)}\n'
        'decision = "allow"\npriority = 100\n'
        for tool, key, value in allowed
    )


class GeminiStream:
    """Keeps what the agent said after its last tool, and the last result."""

    def __init__(self) -> None:
        self._session = ""
        self._text = ""
        self._result: Event | None = None
        self._denials: list[str] = []
        self._has_worked = False
        self._called: dict[str, str] = {}

    def take(self, event: Event) -> None:
        """Read one event; its result has no text, which comes in pieces before it."""
        match event.get("type"):
            case "init":
                self._session = name_of(event.get("session_id"))
            case "message" if event.get("role") == "assistant":
                self._text = kept(self._text + text_of(event.get("content")), TEXT_LIMIT)
                self._has_worked = True
            case "tool_use":
                given = record(event.get("parameters"))
                what = given.get("command") or given.get("file_path") or ""
                name = short(f"{event.get('tool_name')} {what}".strip())
                self._has_worked = True
                self._called = {text_of(event.get("tool_id")): name, **self._called}
                self._called = dict(list(self._called.items())[:DENIALS_LIMIT])
            case "tool_result":
                self._text = ""
                self._denied(event)
            case "result":
                self._result = event

    def _denied(self, result: Event) -> None:
        error = record(result.get("error"))
        message = text_of(error.get("message"))
        is_denial = error.get("type") in _DENIED or message.startswith("Path not in workspace")
        if is_denial and len(self._denials) < DENIALS_LIMIT:
            called = self._called.get(text_of(result.get("tool_id")), "")
            self._denials.append(called or short(message))

    def report(self, process: ProcessEnd) -> ProgramReport:
        """What the result says; without one it has not finished, whatever its exit code."""
        result = self._result or {}
        stats = record(result.get("stats"))
        models = record(stats.get("models"))
        ending, detail = self._ending(process)
        return ProgramReport(
            kind=GeminiCli.kind,
            account=process.account,
            ending=ending,
            session=self._session or process.session,
            text=self._text,
            detail=kept(detail),
            usage={name_of(model): _tokens(record(used)) for model, used in models.items()},
            denials=tuple(self._denials),
            has_worked=self._has_worked,
        )

    def _ending(self, process: ProcessEnd) -> tuple[Ending, str]:
        errors = last_lines(process.errors)
        if self._result is None:
            code = process.exit_code if process.end is RunEnd.EXITED else None
            return (_EXITS.get(code) if code else None) or Ending.CUT_OFF, errors
        error = record(self._result.get("error"))
        message = text_of(error.get("message"))
        if self._result.get("status") == "success" and process.exit_code in (0, None):
            if not self._text.strip() and self._denials:
                return Ending.DENIED, ""
            return Ending.SUCCESS, ""
        return self._error_ending(message, process), message or errors

    def _error_ending(self, message: str, process: ProcessEnd) -> Ending:
        said = message.lower()
        for words, ending in _WORDS:
            if words in said:
                return ending
        code = process.exit_code or 0
        found = _CODE.search(message)
        status = int(found[1] or found[2]) if found else _STATUSES.get(code)
        return _EXITS.get(code) or ending_of_status(status) or Ending.FAILED


def _tokens(used: Event) -> Tokens:
    given, cached = count(used.get("input_tokens")), count(used.get("cached"))
    return Tokens(given, count(used.get("output_tokens")), cached)
