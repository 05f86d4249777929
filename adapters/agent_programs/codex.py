"""Codex as an agent. Measured on 0.171.0.

It tells its errors in prose alone, neither costs nor its model, and its tokens as the sum over the
whole thread.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

from adapters.agent_programs.probes import Asked
from adapters.agent_programs.program import (
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
    records,
    short,
    text_of,
)
from pipeline.agent_programs import Permission, ProgramAgent, ProgramTraits
from pipeline.failures import last_lines
from pipeline.model import Ending, ProgramReport, RunEnd, Tokens
from pipeline.project_proposal import Login
from pipeline.transcript import Block, read_block

SCHEMA = "answer-schema.json"

_PASSED_ON = ("CODEX_API_KEY", "CODEX_HOME", *NETWORK_VARIABLES)
_ASKS = "it has none; bound the stage by its time instead"
_WORDS = (
    ("hit your usage limit", Ending.USAGE_LIMIT),
    ("quota exceeded", Ending.NO_CREDIT),
    ("with your chatgpt plan, upgrade", Ending.NO_CREDIT),
    ("missing environment variable", Ending.NOT_LOGGED_IN),
    ("not logged in", Ending.NOT_LOGGED_IN),
    ("missing bearer", Ending.NOT_LOGGED_IN),
    ("connection failed", Ending.UNREACHABLE),
    ("error sending request", Ending.UNREACHABLE),
    ("rate limit exceeded", Ending.OVERLOADED),
    ("at capacity", Ending.OVERLOADED),
    ("stream disconnected", Ending.OVERLOADED),
)
_STATUS = re.compile(r"(?:unexpected|last) status:? (\d{3})\b")
_RETRY = re.compile(r"^Reconnecting\.\.\. ")
_NO_SANDBOX = re.compile(r"^bwrap: |No permissions to create a new namespace", re.MULTILINE)
_CLOCK = re.compile(
    r"try again at (?:([A-Z][a-z]{2}) (\d{1,2})\w\w, (\d{4}) )?(\d{1,2}:\d\d [AP]M)"
)
_SPAN = re.compile(r"(\d+) (day|hour|minute|second)s?\b")


class Codex:
    """The kind `codex`."""

    kind = "codex"
    takes_schema = True
    traits = ProgramTraits(
        "codex",
        {
            "max_turns": _ASKS,
            "max_budget_usd": _ASKS,
            "permissions.run": 'use "edit", whose sandbox runs commands without network and keeps '
            'writes in the clone, or "everything"',
        },
        tested="0.171.0",
    )
    last_events: tuple[str, ...] = ('{"type":"turn.completed"', '{"type":"turn.failed"')

    def launch(self, agent: ProgramAgent, task: Task) -> Launch:
        """`codex exec`; its session's id is in its first line."""
        options = (
            "--json",
            *("--disable", "unbounded_connection_retries"),  # else it waits for a network for ever
            *("--output-schema", str(task.run_directory / SCHEMA)),
            # Its commands see no variable whose name says that it is a secret.
            *("-c", "shell_environment_policy.ignore_default_excludes=false"),
            *(("-c", "project_doc_max_bytes=0") if agent.isolation else ()),
            *(("-m", agent.model) if agent.model else ()),
            *agent.arguments,
        )
        # A resumed thread falls back to reading alone unless it is told before the command.
        resume = ("resume",) if task.resumes else ("fork",) if task.copies else ()
        ids = (task.session,) if task.resumes else (task.copies,) if task.copies else ()
        argv = (agent.program, "exec", *_permissions(agent, task), *resume, *options, *ids, "-")
        return Launch(
            argv,
            stop=(StopStep("SIGTERM", "group", 3.0),),
            passed_on=_PASSED_ON,
            files={SCHEMA: task.schema},
        )

    def copyable(self, session: str, environment: Mapping[str, str]) -> str:
        """By its id, from any directory."""
        home = environment.get("CODEX_HOME") or f"{environment.get('HOME', '')}/.codex"
        is_kept = any(Path(home).glob(f"sessions/*/*/*/rollout-*-{session}.jsonl"))
        return session if is_kept else ""

    def stream(self) -> "CodexStream":
        """A reader of `codex exec --json`."""
        return CodexStream()

    def readable(self, event: Event) -> Iterator[str]:
        """Text, commands, changed files, results and retries."""
        item = record(event.get("item"))
        match event.get("type"):
            case "thread.started":
                yield f"» session {event.get('thread_id')}"
            case "item.started" if item.get("type") == "command_execution":
                yield f"→ {short(text_of(item.get('command')))}"
            case "item.completed":
                yield from _told(item)
            case "turn.completed":
                used = record(event.get("usage"))
                yield f"» done: {used.get('input_tokens')} + {used.get('output_tokens')} tokens"
            case "turn.failed":
                yield f"» failed: {short(text_of(record(event.get('error')).get('message')), 600)}"
            case "error":
                yield f"» {short(text_of(event.get('message')))}"

    def login(self, ask: Asked) -> tuple[Login, str]:
        """Its status ignores keys in the environment; its own doctor does not run the sandbox."""
        said = ask("login", "status")
        if said.code == 0:
            login = Login.KEY if "API key" in said.text else Login.LOGGED_IN
        elif ask.has("CODEX_API_KEY"):
            login = Login.KEY
        elif said.code is None:
            login = Login.UNKNOWN
        else:
            alone = " (OPENAI_API_KEY alone is not used)" if ask.has("OPENAI_API_KEY") else ""
            return (
                Login.NONE,
                f"it is not logged in{alone}: run codex login, or export CODEX_API_KEY.",
            )
        if ask("sandbox", "--", "true").code:
            return login, (
                "its sandbox does not work on this host, so every command of an agent would fail:"
                ' allow user namespaces, or give permissions = "everything" where this host is a'
                " sandbox itself."
            )
        return login, ""


def _permissions(agent: ProgramAgent, task: Task) -> tuple[str, ...]:
    """Its sandbox reads everything. One that is read-only has no place at all to write to."""
    if agent.permission is Permission.EVERYTHING:
        return ("--dangerously-bypass-approvals-and-sandbox",)
    if agent.permission is Permission.READ:
        return ("-s", "read-only")
    roots = json.dumps([str(task.outbox)])  # a list of JSON strings is one of TOML, too
    return ("-s", "workspace-write", "-c", f"sandbox_workspace_write.writable_roots={roots}")


def _told(item: Event) -> Iterator[str]:
    match item.get("type"):
        case "agent_message":
            yield from text_of(item.get("text")).splitlines()
        case "command_execution":
            mark = "←" if item.get("exit_code") == 0 else "✗"
            yield f"{mark} {short(text_of(item.get('aggregated_output')))}"
        case "file_change":
            for change in records(item.get("changes")):
                yield f"← {change.get('kind')} {change.get('path')}"
        case "error":
            yield f"» {short(text_of(item.get('message')))}"


class CodexStream:
    """Keeps the last message, the end of the turn and the last error."""

    def __init__(self) -> None:
        self._session = ""
        self._text = ""
        self._tokens: Tokens | None = None
        self._end = ""
        self._error = ""
        self._retries = 0
        self._ran = 0
        self._without_sandbox = ""
        self._has_worked = False

    def take(self, event: Event) -> None:
        """Read one event; an item of the type `error` is a warning and no failure."""
        match event.get("type"):
            case "thread.started":
                self._session = name_of(event.get("thread_id"))
            case "item.started" | "item.completed" as kind:
                item = record(event.get("item"))
                self._has_worked = self._has_worked or item.get("type") != "error"
                if kind == "item.completed":
                    self._item(item)
            case "turn.completed":
                self._end, self._tokens = "completed", _tokens(record(event.get("usage")))
            case "turn.failed":
                self._end = "failed"
                self._error = text_of(record(event.get("error")).get("message")) or self._error
            case "error":
                message = text_of(event.get("message"))
                self._retries += bool(_RETRY.match(message))
                self._error = kept(message)

    def _item(self, item: Event) -> None:
        if item.get("type") == "agent_message":
            self._text = kept(text_of(item.get("text")), TEXT_LIMIT)
        elif item.get("type") == "command_execution":
            output = text_of(item.get("aggregated_output"))
            if item.get("exit_code") != 0 and _NO_SANDBOX.search(output):
                self._without_sandbox = last_lines(output, 2)
            else:
                self._ran += 1

    def report(self, process: ProcessEnd) -> ProgramReport:
        """What the end of the turn says; it counts only with an exit code of zero."""
        ending, detail = self._ending(process)
        reading = read_block(Block(self._text.strip()))
        is_answer = ending is Ending.SUCCESS and not reading.problem
        return ProgramReport(
            kind=Codex.kind,
            account=process.account,
            ending=ending,
            session=self._session,
            text=self._text,
            answer=reading.fields if is_answer else None,
            detail=kept(detail),
            until=reset_time(detail, process.ended_at) if ending is Ending.USAGE_LIMIT else None,
            usage={model_of(process.argv): self._tokens} if self._tokens else {},
            counts_session=True,
            retries=self._retries,
            has_worked=self._has_worked,
        )

    def _ending(self, process: ProcessEnd) -> tuple[Ending, str]:
        if self._end == "failed":
            return _of_words(self._error), self._error
        if self._end == "completed":
            if self._without_sandbox and not self._ran:
                return Ending.NO_SANDBOX, self._without_sandbox
            if process.end is RunEnd.EXITED and process.exit_code != 0:
                return Ending.FAILED, last_lines(process.errors)
            return Ending.SUCCESS, ""
        errors = last_lines(process.errors)
        if process.end is RunEnd.EXITED and not self._session and process.exit_code in (1, 2):
            return Ending.REFUSED_START, errors
        return Ending.CUT_OFF, self._error or errors


def model_of(argv: Sequence[str]) -> str:
    """The model that a command line names, which no event does; empty if its configuration does."""
    found = ""
    for option, value in pairwise(argv):
        name, equals, rest = option.partition("=")
        if name in ("-m", "--model"):
            found = rest if equals else value
        elif option in ("-c", "--config") and value.partition("=")[0] == "model":
            found = value.partition("=")[2].strip("\"'")
    return name_of(found)


def _tokens(usage: Event) -> Tokens:
    given, cached = count(usage.get("input_tokens")), count(usage.get("cached_input_tokens"))
    return Tokens(given, count(usage.get("output_tokens")), cached)


def _of_words(message: str) -> Ending:
    said = message.lower()
    for words, ending in _WORDS:
        if words in said:
            return ending
    status = _STATUS.search(message)
    if status:
        return ending_of_status(int(status[1])) or Ending.FAILED
    return Ending.API_ERROR if message.lstrip().startswith("{") else Ending.FAILED


def reset_time(message: str, now: datetime | None) -> datetime | None:
    """When a limit is reset, from words such as `try again at 6:12 AM`, in this machine's zone."""
    if now is None:
        return None
    if found := _CLOCK.search(message):
        month, day, year, clock = found.groups()
        local = now.astimezone()
        time = datetime.strptime(clock, "%I:%M %p").time()  # noqa: DTZ007 # the zone is local's
        if month is None:
            then = datetime.combine(local.date(), time, local.tzinfo)
            return then if then > local else then + timedelta(days=1)
        date = datetime.strptime(f"{month} {day} {year}", "%b %d %Y").date()  # noqa: DTZ007
        return datetime.combine(date, time, local.tzinfo)
    _, again, rest = message.partition("try again in ")
    spans = {f"{unit}s": float(number) for number, unit in _SPAN.findall(rest)}
    return now + timedelta(**spans) if again and spans else None
