"""Claude Code as an agent. Measured on 2.1.197."""

import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
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
    dollars,
    ending_of_status,
    kept,
    name_of,
    record,
    records,
    short,
    text_of,
    time_of,
)
from pipeline.agent_programs import Permission, ProgramAgent, ProgramTraits
from pipeline.failures import last_lines
from pipeline.model import Ending, ProgramReport, RunEnd, Tokens
from pipeline.project_proposal import Login

STOP_SECONDS = 8.0
"""It ends within two seconds after SIGINT. In a command it tells its costs before, and ends that;
before the model's first word it tells nothing."""
_RETRIES = "2"
"""Of its own, about four seconds; by default it would try for three minutes."""

_VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        "CLAUDE_CODE_MAX_RETRIES": _RETRIES,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
)
_PASSED_ON = (
    *("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"),
    *("CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CONFIG_DIR", *NETWORK_VARIABLES),
)
_READING = ("Read", "Grep", "Glob")
_EDITING = (*_READING, "Edit", "Write", "NotebookEdit")

_ERRORS: Mapping[str, Ending] = MappingProxyType(
    {
        "authentication_failed": Ending.LOGIN_REFUSED,
        "oauth_org_not_allowed": Ending.LOGIN_REFUSED,
        "billing_error": Ending.NO_CREDIT,
        "overloaded": Ending.OVERLOADED,
        "server_error": Ending.OVERLOADED,
        "model_not_found": Ending.UNKNOWN_MODEL,
        "invalid_request": Ending.API_ERROR,
    }
)
"""What an assistant message that the program has made itself gives as its `error`."""
_SUBTYPES: Mapping[str, Ending] = MappingProxyType(
    {
        "error_max_turns": Ending.TURN_LIMIT,
        "error_max_budget_usd": Ending.BUDGET_LIMIT,
        "error_max_structured_output_retries": Ending.NO_ANSWER,
        "error_during_execution": Ending.INTERRUPTED,
    }
)
_WORDS = (
    ("not logged in", Ending.NOT_LOGGED_IN),
    ("credit balance is too low", Ending.NO_CREDIT),
    ("out of usage", Ending.USAGE_LIMIT),
    ("out of extra usage", Ending.USAGE_LIMIT),
    ("unable to connect to api", Ending.UNREACHABLE),
    ("repeated 529", Ending.OVERLOADED),
)
_SHOWN = ("command", "file_path", "pattern", "path", "url", "description", "prompt")
"""What of a tool's input tells most, in this order."""
_SYNTHETIC = "<synthetic>"
"""The model of a message that the program has made itself."""
_MODELS_LIMIT = 20
_NO_SESSION = "No conversation found"
_REFUSED_STARTS = ("error: unknown option", "Error: Session ID", _NO_SESSION, "error:")


class ClaudeCode:
    """The kind `claude-code`."""

    kind = "claude-code"
    takes_schema = True
    traits = ProgramTraits("claude", tested="2.1.197")
    last_events: tuple[str, ...] = ('{"type":"result"',)

    def launch(self, agent: ProgramAgent, task: Task) -> Launch:
        """`claude -p`, with a session of a chosen id."""
        copied = ("--resume", task.copies, "--fork-session") if task.copies else ()
        session = (*copied, "--resume" if task.resumes else "--session-id", task.session)
        argv = (
            *(agent.program, "-p", "--output-format", "stream-json", "--verbose"),
            *session,
            *("--json-schema", task.schema),
            *_permissions(agent, task),
            *(("--setting-sources", "user", "--strict-mcp-config") if agent.isolation else ()),
            *(("--model", agent.model) if agent.model else ()),
            *(("--max-turns", str(agent.max_turns)) if agent.max_turns else ()),
            *(("--max-budget-usd", f"{agent.max_budget_usd:g}") if agent.max_budget_usd else ()),
            *agent.arguments,
        )
        # As root it does everything only where it is told that the host is a sandbox.
        is_free = agent.permission is Permission.EVERYTHING and os.geteuid() == 0
        return Launch(
            argv,
            # After SIGTERM its running command would survive it, and the costs would stay unsaid.
            stop=(StopStep("SIGINT", "pid", STOP_SECONDS),),
            passed_on=_PASSED_ON,
            variables={**_VARIABLES, **({"IS_SANDBOX": "1"} if is_free else {})},
            session=task.session,
        )

    def copyable(self, session: str, environment: Mapping[str, str]) -> str:
        """By the path of its file, since an id is only known in the directory of its work."""
        home = environment.get("CLAUDE_CONFIG_DIR") or f"{environment.get('HOME', '')}/.claude"
        return next(map(str, Path(home).glob(f"projects/*/{session}.jsonl")), "")

    def stream(self) -> "ClaudeStream":
        """A reader of `--output-format stream-json`."""
        return ClaudeStream()

    def readable(self, event: Event) -> Iterator[str]:
        """Text, tools, results and retries."""
        match event.get("type"), event.get("subtype"):
            case "system", "init":
                yield f"» session {event.get('session_id')}, model {event.get('model')}"
            case "system", "api_retry":
                reason = event.get("error_status") or event.get("error")
                yield f"» retry {event.get('attempt')} of {event.get('max_retries')}: {reason}"
            case "assistant", _:
                yield from _told(event)
            case "user", _:
                yield from _results(event)
            case "rate_limit_event", _:
                limit = record(event.get("rate_limit_info"))
                if limit.get("status") != "allowed":
                    yield f"» limit {limit.get('rateLimitType')}: {limit.get('status')}"
            case "result", subtype:
                cost = dollars(event.get("total_cost_usd"))
                paid = f", ${cost:.4f}" if cost is not None else ""
                said = "failed" if event.get("is_error") and subtype == "success" else subtype
                turns = f" after {count} turns" if (count := event.get("num_turns")) else ""
                yield f"» {said}{turns}{paid}"

    def login(self, ask: Asked) -> tuple[Login, str]:
        """`claude auth status` prints JSON and does not contact the API."""
        said = ask("auth", "status")
        try:
            status = json.loads(said.text)
            is_logged_in = bool(status["loggedIn"])
        except (ValueError, KeyError, TypeError):
            status, is_logged_in = {}, said.code == 0
        if is_logged_in:
            return (Login.KEY if status.get("apiKeySource") else Login.LOGGED_IN), ""
        if ask.has("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"):
            return Login.KEY, ""
        if said.code is None:
            return Login.UNKNOWN, ""
        return (
            Login.NONE,
            "it is not logged in: run claude and /login, or export ANTHROPIC_API_KEY.",
        )


def _permissions(agent: ProgramAgent, task: Task) -> tuple[str, ...]:
    if agent.permission is Permission.EVERYTHING:
        return ("--permission-mode", "bypassPermissions")
    if agent.permission is Permission.READ:
        tools = ",".join((*_READING, "Write"))
        rules = (*_READING, f"Edit(/{task.outbox}/**)")  # a second slash: it is no relative path
        return ("--permission-mode", "dontAsk", "--tools", tools, "--allowedTools", *rules)
    # Edits are accepted within the clone and its own folder; what is not allowed here is denied.
    edits = ("--permission-mode", "acceptEdits", "--add-dir", str(task.run_directory))
    if agent.permission is Permission.EDIT:
        return (*edits, "--tools", ",".join(_EDITING))
    commands = [f"Bash({command}{more})" for command in agent.commands for more in ("", " *")]
    tools = ",".join((*_EDITING, "Bash"))
    return (*edits, "--tools", tools, "--allowedTools", *commands)


class ClaudeStream:
    """Keeps the last result, what its API said last, and when a limit is reset."""

    def __init__(self) -> None:
        self._session = ""
        self._read: dict[str, Tokens] = {}
        """What its answers have read so far: all that is known of one that was cut off."""
        self._answer = ""
        self._result: Event | None = None
        self._error = ""
        self._until: datetime | None = None
        self._retries = 0
        self._retried = ""
        self._has_worked = False

    def take(self, event: Event) -> None:
        """Read one event; what follows a result changes nothing of it."""
        self._session = self._session or name_of(event.get("session_id"))
        match event.get("type"), event.get("subtype"):
            case "system", "api_retry":
                self._retries += 1
                self._retried = text_of(event.get("error"))
            case "assistant", _:
                self._error = text_of(event.get("error"))
                message = record(event.get("message"))
                self._has_worked = self._has_worked or message.get("model") != _SYNTHETIC
                self._count(message)
            case "rate_limit_event", _:
                self._limit(record(event.get("rate_limit_info")))
            case "result", _:
                self._result = {
                    **event,
                    "result": kept(text_of(event.get("result")), TEXT_LIMIT),
                    "permission_denials": records(event.get("permission_denials"))[:DENIALS_LIMIT],
                }

    def _count(self, message: Event) -> None:
        """Count an answer once, although each of its parts is an event."""
        answer, model = name_of(message.get("id")), name_of(message.get("model"))
        if answer == self._answer or model == _SYNTHETIC:
            return
        self._answer = answer
        if model in self._read or len(self._read) < _MODELS_LIMIT:
            read = _begun(record(message.get("usage")))
            self._read[model] = self._read.get(model, Tokens()) + read

    def _limit(self, limit: Event) -> None:
        if limit.get("status") == "rejected":
            resets = limit.get("resetsAt")
            self._until = time_of(resets)
            self._error = self._error or "rate_limit"

    def report(self, process: ProcessEnd) -> ProgramReport:
        """What the last result says, which may be none."""
        result = self._result or {}
        told = record(result.get("modelUsage")).items()
        usage = {name_of(model): _tokens(record(used)) for model, used in told}
        answer = result.get("structured_output")
        ending, detail = self._ending(process)
        return ProgramReport(
            kind=ClaudeCode.kind,
            account=process.account,
            ending=ending,
            session=self._session or process.session,
            text=text_of(result.get("result")),
            answer=answer if isinstance(answer, dict) and ending is Ending.SUCCESS else None,
            detail=kept(detail),
            until=self._until if ending is Ending.USAGE_LIMIT else None,
            usage=usage or self._read,
            cost_usd=dollars(result.get("total_cost_usd")),
            denials=tuple(map(_denial, result.get("permission_denials", ()))),
            retries=self._retries,
            has_worked=self._has_worked,
        )

    def _ending(self, process: ProcessEnd) -> tuple[Ending, str]:
        result = self._result
        if result is None:
            return self._without_result(process)
        text, subtype = text_of(result.get("result")), text_of(result.get("subtype"))
        if subtype != "success":
            errors = result.get("errors")
            said = "; ".join(map(str, errors)) if isinstance(errors, list) else text
            if _NO_SESSION in said:
                return Ending.REFUSED_START, said
            return _SUBTYPES.get(subtype, Ending.FAILED), said or subtype
        if result.get("is_error") is not False:
            status = result.get("api_error_status")
            return self._api_ending(text, status if isinstance(status, int) else None), text
        if result.get("structured_output") is None and result["permission_denials"]:
            return Ending.DENIED, last_lines(text)
        return Ending.SUCCESS, ""

    def _api_ending(self, text: str, status: int | None) -> Ending:
        said = text.lower()
        for words, ending in _WORDS:
            if words in said:
                return ending
        # Of a subscription: with an API key a 429 names no limit that would be reset.
        if self._until or (self._error == "rate_limit" and said.startswith(("you've", "your "))):
            return Ending.USAGE_LIMIT
        by_status = ending_of_status(status)
        return _ERRORS.get(self._error) or by_status or Ending.FAILED

    def _without_result(self, process: ProcessEnd) -> tuple[Ending, str]:
        errors = last_lines(process.errors)
        if process.end is not RunEnd.EXITED or process.exit_code in (None, 0, 143):
            return Ending.CUT_OFF, errors
        if not self._session and any(words in process.errors for words in _REFUSED_STARTS):
            return Ending.REFUSED_START, errors
        return Ending.CUT_OFF, errors or self._retried


def _tokens(used: Event) -> Tokens:
    """Of one model, those of auxiliary calls included; what was cached was read, too."""
    cached = count(used.get("cacheReadInputTokens"))
    made = count(used.get("cacheCreationInputTokens"))
    fresh = count(used.get("inputTokens"))
    return Tokens(fresh + made + cached, count(used.get("outputTokens")), cached)


def _begun(usage: Event) -> Tokens:
    """Of one answer as it begins: what was read is whole, what is written is not."""
    cached = count(usage.get("cache_read_input_tokens"))
    made = count(usage.get("cache_creation_input_tokens"))
    fresh = count(usage.get("input_tokens"))
    return Tokens(fresh + made + cached, count(usage.get("output_tokens")), cached)


def _denial(denial: Event) -> str:
    given = record(denial.get("tool_input"))
    what = given.get("command") or given.get("file_path") or given.get("url") or ""
    return short(f"{denial.get('tool_name')} {what}".strip())


def _told(event: Event) -> Iterator[str]:
    inner = "  " if event.get("parent_tool_use_id") else ""
    for part in records(record(event.get("message")).get("content")):
        if part.get("type") == "text":
            yield from (f"{inner}{line}" for line in text_of(part.get("text")).splitlines())
        elif part.get("type") == "tool_use":
            given = record(part.get("input"))
            whole = json.dumps(given, ensure_ascii=False)
            what = next((given[key] for key in _SHOWN if key in given), whole)
            yield f"{inner}→ {part.get('name')} {short(str(what))}"


def _results(event: Event) -> Iterator[str]:
    inner = "  " if event.get("parent_tool_use_id") else ""
    for part in records(record(event.get("message")).get("content")):
        if part.get("type") != "tool_result":
            continue
        content = part.get("content")
        said = (
            content
            if isinstance(content, str)
            else " ".join(text_of(each.get("text")) for each in records(content))
        )
        mark = "✗" if part.get("is_error") else "←"
        yield f"{inner}{mark} {short(said)}"
