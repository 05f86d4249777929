"""What real programs go through, and how each has to end: played live, and recorded."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from adapters.agent_programs import PROGRAMS
from adapters.processes import all_pids, variable_of
from adapters.runs.kinds import RUN_DIRECTORY_VARIABLE
from pipeline.agent_programs import Permission, ProgramAgent
from pipeline.model import Ending, RunEnd, RunResult
from pipeline.notice import notice_schema
from pipeline.team import TEAM
from pipeline.verdicts import green_notice
from tests.agents.programs import installed
from tests.agents.stand_ins import (
    Answer,
    Fault,
    Hang,
    Run,
    Say,
    StandIn,
    Turn,
    Write,
    script,
    stand_in,
)
from tests.eventually import eventually
from tests.fixtures_runs import Bench, attach

FROM_NPM = tuple(kind for kind in PROGRAMS if kind != "nats")
"""The kinds whose programs npm brings; agents on other machines have tests of their own."""
NOTICE = Answer(
    {**green_notice(TEAM["roy"], "REQ-1"), "no_changes_needed": None, "deliverable": None}
)
WORK = (Write("hello.txt", "hello\n"), Run("touch ran"), NOTICE)
TOUCH: Mapping[str, Any] = MappingProxyType({"permission": Permission.RUN, "commands": ("touch",)})
NOWHERE = "http://127.0.0.1:9"
"""Nobody answers there."""


@dataclass(frozen=True)
class Scenario:
    """One run of a program. `faults` come first, `every` refuses all requests.

    `environment` is laid over the kind's usual one, an empty value removes a variable. With `stops`
    the run is cancelled once the program has asked its API.
    """

    kind: str
    ending: Ending
    turns: tuple[Turn, ...] = WORK
    faults: tuple[Fault | Hang, ...] = ()
    every: Fault | None = None
    agent: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    stops: bool = False
    works_on: bool = False
    """Whether it is stopped in the middle of a command, which has left the file `ran`."""
    end: RunEnd = RunEnd.EXITED
    detail: str = ""
    """What the program's own words must hold."""


def anthropic(status: int, kind: str, message: str, **headers: str) -> Fault:
    body = {"type": "error", "error": {"type": kind, "message": message}}
    return Fault(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


def limited_until(reset: int) -> Fault:
    """Anthropic's answer while a usage limit lasts; `reset` is its end, in seconds of the epoch."""
    limit = {
        "anthropic_ratelimit_unified_status": "rejected",
        "anthropic_ratelimit_unified_reset": str(reset),
        "anthropic_ratelimit_unified_representative_claim": "five_hour",
        "anthropic_ratelimit_unified_5h_status": "rejected",
        "anthropic_ratelimit_unified_5h_reset": str(reset),
    }
    return anthropic(429, "rate_limit_error", "This would exceed your limit", **limit)


def openai(status: int, kind: str, message: str, **more: object) -> Fault:
    return Fault(status, {"error": {"type": kind, "code": kind, "message": message, **more}})


def google(status: int, kind: str, message: str, *details: Mapping[str, object]) -> Fault:
    error = {"code": status, "status": kind, "message": message, "details": list(details)}
    return Fault(status, {"error": error})


RESET = 4102444800
"""The first second of 2100."""

_LIMIT = {
    "anthropic_ratelimit_unified_status": "rejected",
    "anthropic_ratelimit_unified_reset": str(RESET),
    "anthropic_ratelimit_unified_representative_claim": "five_hour",
    "anthropic_ratelimit_unified_5h_status": "rejected",
    "anthropic_ratelimit_unified_5h_reset": str(RESET),
    "anthropic_ratelimit_unified_5h_utilization": "1.0",
}
_OAUTH = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "token"}
_LONG = Run("touch ran; sleep 300")
_FREE: Mapping[str, Any] = MappingProxyType({"permission": Permission.EVERYTHING})
_STOPPED: Mapping[str, Any] = MappingProxyType(
    {"stops": True, "works_on": True, "end": RunEnd.CANCELLED}
)
_WRONG = Answer({"agent": "roy", "status": "DONE"})
_DAILY = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}],
}

SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        "claude-code works": Scenario("claude-code", Ending.SUCCESS, agent=TOUCH),
        "claude-code is denied": Scenario(
            "claude-code",
            Ending.DENIED,
            (Run("curl x"), Say("I may not.")),
            agent=TOUCH,
            detail="I may not.",
        ),
        "claude-code answers in prose": Scenario(
            "claude-code", Ending.SUCCESS, (Say("All is done."),)
        ),
        "claude-code never meets its schema": Scenario("claude-code", Ending.NO_ANSWER, (_WRONG,)),
        "claude-code has no more turns": Scenario(
            "claude-code",
            Ending.TURN_LIMIT,
            (Run("touch ran"),),
            agent={**TOUCH, "max_turns": 2},
            detail="maximum number of turns (2)",
        ),
        "claude-code has no more budget": Scenario(
            "claude-code",
            Ending.BUDGET_LIMIT,
            (Run("touch ran"),),
            agent={**TOUCH, "max_budget_usd": 0.01},
            detail="$0.01",
        ),
        "claude-code has no credit": Scenario(
            "claude-code",
            Ending.NO_CREDIT,
            every=anthropic(400, "invalid_request_error", "Your credit balance is too low"),
            detail="Credit balance is too low",
        ),
        "claude-code has a bad key": Scenario(
            "claude-code",
            Ending.LOGIN_REFUSED,
            every=anthropic(401, "authentication_error", "invalid x-api-key"),
            detail="API key",
        ),
        "claude-code is forbidden": Scenario(
            "claude-code",
            Ending.LOGIN_REFUSED,
            every=anthropic(403, "permission_error", "not for you"),
            detail="not for you",
        ),
        "claude-code has no such model": Scenario(
            "claude-code",
            Ending.UNKNOWN_MODEL,
            every=anthropic(404, "not_found_error", "model: x"),
            agent={"model": "claude-nobody"},
            detail="claude-nobody",
        ),
        "claude-code asks too often": Scenario(
            "claude-code",
            Ending.OVERLOADED,
            every=anthropic(429, "rate_limit_error", "slow down"),
            detail="slow down",
        ),
        "claude-code has used up its plan": Scenario(
            "claude-code",
            Ending.USAGE_LIMIT,
            every=anthropic(429, "rate_limit_error", "This request would exceed it", **_LIMIT),
            environment=_OAUTH,
            detail="limit",
        ),
        "claude-code meets a broken service": Scenario(
            "claude-code", Ending.OVERLOADED, every=anthropic(500, "api_error", "broken")
        ),
        "claude-code meets an overloaded service": Scenario(
            "claude-code", Ending.OVERLOADED, every=anthropic(529, "overloaded_error", "busy")
        ),
        "claude-code recovers": Scenario(
            "claude-code",
            Ending.SUCCESS,
            faults=(anthropic(529, "overloaded_error", "busy"),),
            agent=TOUCH,
        ),
        "claude-code finds nobody": Scenario(
            "claude-code",
            Ending.UNREACHABLE,
            environment={"ANTHROPIC_BASE_URL": NOWHERE},
            detail="Unable to connect",
        ),
        "claude-code is not logged in": Scenario(
            "claude-code",
            Ending.NOT_LOGGED_IN,
            environment={"ANTHROPIC_API_KEY": ""},
            detail="/login",
        ),
        "claude-code knows no such option": Scenario(
            "claude-code",
            Ending.REFUSED_START,
            agent={"arguments": ("--no-such-option",)},
            detail="unknown option",
        ),
        "claude-code is stopped in a command": Scenario(
            "claude-code", Ending.INTERRUPTED, (_LONG,), agent=_FREE, **_STOPPED
        ),
        "codex is stopped in a command": Scenario("codex", Ending.CUT_OFF, (_LONG,), **_STOPPED),
        "gemini is stopped in a command": Scenario(
            "gemini", Ending.CUT_OFF, (_LONG,), agent=_FREE, **_STOPPED
        ),
        "codex works": Scenario("codex", Ending.SUCCESS),
        "codex works without a sandbox": Scenario(
            "codex", Ending.SUCCESS, agent={"permission": Permission.EVERYTHING}
        ),
        "codex answers in prose": Scenario("codex", Ending.SUCCESS, (Say("All is done."),)),
        "codex has a bad key": Scenario(
            "codex",
            Ending.LOGIN_REFUSED,
            every=openai(401, "invalid_api_key", "Incorrect API key"),
            detail="Incorrect API key",
        ),
        "codex has used up its plan": Scenario(
            "codex",
            Ending.USAGE_LIMIT,
            every=openai(429, "usage_limit_reached", "limit", plan_type="plus", resets_at=RESET),
            detail="usage limit",
        ),
        "codex has no credit": Scenario(
            "codex",
            Ending.NO_CREDIT,
            every=openai(429, "insufficient_quota", "You exceeded your current quota"),
            detail="Quota exceeded",
        ),
        "codex meets a broken service": Scenario(
            "codex", Ending.OVERLOADED, every=openai(503, "server_error", "broken"), detail="503"
        ),
        "codex sends what is wrong": Scenario(
            "codex",
            Ending.API_ERROR,
            every=openai(400, "invalid_request_error", "no such thing"),
            detail="no such thing",
        ),
        "codex finds nobody": Scenario(
            "codex",
            Ending.UNREACHABLE,
            agent={"arguments": ("-c", f'openai_base_url="{NOWHERE}/v1"')},
            detail="Connection failed",
        ),
        "codex knows no such option": Scenario(
            "codex",
            Ending.REFUSED_START,
            agent={"arguments": ("--no-such-option",)},
            detail="unexpected argument",
        ),
        "codex is stopped": Scenario(
            "codex", Ending.CUT_OFF, faults=(Hang(),), stops=True, end=RunEnd.CANCELLED
        ),
        "gemini works": Scenario("gemini", Ending.SUCCESS, agent=TOUCH),
        "gemini is denied": Scenario(
            "gemini", Ending.SUCCESS, (Run("curl x"), Say("I may not.")), agent=TOUCH
        ),
        "gemini sends what is wrong": Scenario(
            "gemini",
            Ending.API_ERROR,
            every=google(400, "INVALID_ARGUMENT", "no such thing"),
            detail="no such thing",
        ),
        "gemini has a bad key": Scenario(
            "gemini",
            Ending.LOGIN_REFUSED,
            every=google(400, "INVALID_ARGUMENT", "API key not valid. Pass a valid API key."),
            detail="API key not valid",
        ),
        "gemini has used up its day": Scenario(
            "gemini",
            Ending.USAGE_LIMIT,
            every=google(429, "RESOURCE_EXHAUSTED", "Quota", _DAILY),
            detail="daily quota",
        ),
        "gemini is not logged in": Scenario(
            "gemini", Ending.NOT_LOGGED_IN, environment={"GEMINI_API_KEY": ""}
        ),
        "gemini is stopped": Scenario(
            "gemini", Ending.CUT_OFF, faults=(Hang(),), stops=True, end=RunEnd.CANCELLED
        ),
    }
)


async def play(scenario: Scenario, runs: Bench, clone: Path) -> tuple[RunResult, StandIn]:
    """Run the real program through the real host, and its API's stand-in as it was left."""
    with stand_in(script(*scenario.turns)) as api:
        api.faults += scenario.faults
        api.every = scenario.every
        runs.agents["roy"] = agent(scenario, api)
        runs.environment = environment(scenario.environment, api, clone.parent)
        host, order = runs.host(), runs.order(worktree=str(clone))
        if not scenario.stops:
            return await attach(host, order), api
        async with host.slot(order.slot):
            await host.start(order)
        began = (lambda: (clone / "ran").exists()) if scenario.works_on else api.is_asked
        await eventually(began, "its work")
        await host.end(order.run_id)
        return runs.directory(order).result(), api


def agent(scenario: Scenario, api: StandIn) -> ProgramAgent:
    """The agent as the agents file would describe it."""
    kind = scenario.kind
    program = str(installed() / PROGRAMS[kind].traits.program)
    usual = ProgramAgent(kind, program, kind, model=_MODELS[kind])
    if kind == "codex":
        usual = replace(usual, arguments=("-c", f'openai_base_url="{api.url}/v1"'))
    return replace(usual, **scenario.agent)


_MODELS = {"claude-code": "", "codex": "test-model", "gemini": "gemini-test"}


def environment(changes: Mapping[str, str], api: StandIn, folder: Path) -> dict[str, str]:
    """The worker's environment: a home of its own for the program, a key, and the stand-in."""
    home = folder / "home-of-agents"
    settings, codex = home / ".gemini" / "settings.json", home / ".codex"
    settings.parent.mkdir(parents=True, exist_ok=True)
    codex.mkdir(exist_ok=True)
    settings.write_text('{"security": {"auth": {"selectedType": "gemini-api-key"}}}')
    usual = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "ANTHROPIC_API_KEY": "test-key",
        "ANTHROPIC_BASE_URL": api.url,
        "CODEX_API_KEY": "test-key",
        "GEMINI_API_KEY": "test-key",
        "GOOGLE_GEMINI_BASE_URL": api.url,
    }
    return {name: value for name, value in {**usual, **changes}.items() if value}


def notice_of(agent: str, number: str, **changes: object) -> dict[str, object]:
    """The green answer of an agent with everything that its schema asks for."""
    properties = notice_schema(TEAM[agent], number)["properties"]
    assert isinstance(properties, dict)
    lists: dict[str, object] = {
        name: [] for name, each in properties.items() if each.get("type") == "array"
    }
    given = {**dict.fromkeys(properties), **lists, **green_notice(TEAM[agent], number), **changes}
    return {name: given[name] for name in properties}


def left_of(run_directory: Path) -> list[int]:
    """Processes that belong to a run."""
    wanted = str(run_directory)
    return [pid for pid in all_pids() if variable_of(pid, RUN_DIRECTORY_VARIABLE) == wanted]
