from dataclasses import replace
from datetime import timedelta
from pathlib import PurePath

import pytest

from pipeline.accounts import AfterLimit
from pipeline.agent_programs import Permission, ProgramAgent, ProgramTraits
from pipeline.agents_file import (
    AgentsFile,
    BuildCommand,
    CommandAgent,
    SimulatedAgent,
    SimulatedBuild,
    check_plan,
    read_agents,
)
from pipeline.budgets import RunBudget
from pipeline.errors import AgentsFileRefused
from pipeline.team import TEAM
from tests.plans import a_plan, a_stage, shipped

HERE = PurePath("/project")
SIMULATED_BUILDS = """
[builds.backend]
kind = "simulated"
[builds.frontend]
kind = "simulated"
"""
SIMULATED_TEAM = '[defaults]\nkind = "simulated"\n' + "".join(f"[agents.{name}]\n" for name in TEAM)


PROGRAMS = {
    "clever": ProgramTraits("clever-cli"),
    "plain": ProgramTraits(
        "plain", {"max_turns": "count them yourself", "permissions.run": 'use "edit"'}
    ),
    "afar": ProgramTraits("ours", {"permissions": "say it there"}, is_remote=True),
}


def read(text: str) -> AgentsFile:
    return read_agents(text, "agents.toml", HERE, PROGRAMS)


def refusal(text: str) -> str:
    with pytest.raises(AgentsFileRefused) as refused:
        read(text)
    return str(refused.value)


def test_the_documented_example_is_read() -> None:
    agents = read(
        """
        [defaults]
        kind = "command"
        [agents.roy]
        command = ["./my-agent", "--role", "backend"]
        environment = ["MY_API_KEY"]
        [agents.billy]
        kind = "simulated"
        minutes = 45
        notice = { test_result = "PASS", needs_vic = true }
        [simulation]
        minute_seconds = 0.02
        [builds.backend]
        directory = "services/backend"
        command = ["npm", "run", "build"]
        prepare = ["npm", "ci"]
        timeout_seconds = 60
        environment = ["NODE_OPTIONS"]
        [builds.frontend]
        kind = "simulated"
        minutes = 2
        passes = false
        """
    )

    assert agents.source == "agents.toml"
    assert agents.directory == HERE
    assert agents.minute_seconds == 0.02
    assert agents.agents == {
        "roy": CommandAgent(("/project/my-agent", "--role", "backend"), ("MY_API_KEY",)),
        "billy": SimulatedAgent(45, {"test_result": "PASS", "needs_vic": True}),
    }
    assert agents.builds == {
        "backend": BuildCommand(
            "services/backend",
            ("npm", "run", "build"),
            ("npm", "ci"),
            timedelta(seconds=60),
            ("NODE_OPTIONS",),
        ),
        "frontend": SimulatedBuild(2, passes=False),
    }


def test_an_empty_file_has_the_usual_builds_and_no_agents() -> None:
    agents = read("")

    assert agents.agents == {}
    assert agents.minute_seconds == 1
    assert agents.builds == {
        "backend": BuildCommand("backend", ("npm", "run", "build")),
        "frontend": BuildCommand("frontend", ("npm", "run", "build")),
    }


def test_defaults_apply_where_they_fit_the_kind_and_the_agent_says_nothing() -> None:
    agents = read(
        """
        [defaults]
        command = ["agent"]
        environment = ["KEY"]
        minutes = 7
        notice = { summary = "scripted" }
        [agents.roy]
        [agents.jen]
        command = ["other"]
        environment = []
        [agents.tim]
        kind = "simulated"
        """
    ).agents

    assert agents["roy"] == CommandAgent(("agent",), ("KEY",))
    assert agents["jen"] == CommandAgent(("other",), ())
    assert agents["tim"] == SimulatedAgent(7, {"summary": "scripted"})


@pytest.mark.parametrize(
    ("program", "resolved"),
    [
        ("claude", "claude"),
        ("./agent", "/project/agent"),
        ("bin/agent", "/project/bin/agent"),
        ("../agent", "/project/../agent"),
        ("/usr/bin/agent", "/usr/bin/agent"),
    ],
)
def test_a_relative_program_with_a_slash_starts_from_the_file(program: str, resolved: str) -> None:
    agents = read(f'[agents.roy]\ncommand = ["{program}", "./file"]')

    assert agents.agents["roy"] == CommandAgent((resolved, "./file"))


def test_no_op_benches_may_take_no_time() -> None:
    agents = read(
        """
        [simulation]
        minute_seconds = 0
        [agents.roy]
        kind = "simulated"
        minutes = 0
        """
    )

    assert agents.minute_seconds == 0
    assert agents.agents["roy"] == SimulatedAgent(0)


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("x", "TOML", "Expected '='"),
        ("[agent.roy]", "agent", "unknown key; known are defaults, agents, simulation, builds"),
        ("agents = 1", "agents", "must be a table"),
        ("[agents.Bob]", "agents.Bob", "lower-case letters, digits and hyphens"),
        ("agents.roy = 1", "agents.roy", "must be a table"),
        ("[agents.roy]", "agents.roy.command", "is missing"),
        ("[agents.roy]\ncommand = []", "agents.roy.command", "must name a program"),
        ('[agents.roy]\ncommand = "x"', "agents.roy.command", "list of strings"),
        ('[agents.roy]\ncommand = ["x", 1]', "agents.roy.command", "must hold strings"),
        ('[agents.roy]\ncommand = ["a\\u0000"]', "agents.roy.command", "null character"),
        ('[agents.roy]\nkind = "magic"', "agents.roy.kind", "unknown kind 'magic'"),
        ('[defaults]\nkind = "magic"\n[agents.roy]', "defaults.kind", "unknown kind 'magic'"),
        ('[defaults]\ncolour = "red"', "defaults.colour", "unknown key"),
        ('[agents.roy]\ncommand = ["x"]\nminutes = 1', "agents.roy.minutes", "unknown key"),
        ('[agents.roy]\nkind = "simulated"\ncommand = ["x"]', "agents.roy.command", "unknown key"),
        ('[agents.roy]\nkind = "simulated"\nminutes = -1', "agents.roy.minutes", "zero or more"),
        ('[agents.roy]\nkind = "simulated"\nnotice = "x"', "agents.roy.notice", "must be a table"),
        (
            '[agents.roy]\nkind = "simulated"\nnotice = { at = 2026-01-01 }',
            "agents.roy.notice",
            "JSON cannot express",
        ),
        (
            '[agents.roy]\nkind = "simulated"\nnotice = { at = nan }',
            "agents.roy.notice",
            "JSON cannot express",
        ),
        (
            '[agents.roy]\ncommand = ["x"]\nenvironment = ["A=B"]',
            "agents.roy.environment",
            "not the name of a variable",
        ),
        ("[simulation]\nminute_seconds = -1", "simulation.minute_seconds", "zero or more"),
        ("[simulation]\nminute_seconds = true", "simulation.minute_seconds", "must be a number"),
        ("[simulation]\nspeed = 1", "simulation.speed", "unknown key"),
        ("[builds.Backend]", "builds.Backend", "lower-case letters"),
        ('[builds.x]\nkind = "magic"', "builds.x.kind", "unknown kind"),
        ("[builds.x]\nminutes = 1", "builds.x.minutes", "unknown key"),
        ('[builds.x]\nkind = "simulated"\npasses = 1', "builds.x.passes", "true or false"),
        ('[builds.x]\ndirectory = "/etc"', "builds.x.directory", "stays inside"),
        ('[builds.x]\ndirectory = "a/../../b"', "builds.x.directory", "stays inside"),
        ('[builds.x]\ndirectory = ""', "builds.x.directory", "not empty"),
        ("[builds.x]\ncommand = []", "builds.x.command", "must name a program"),
        ("[builds.x]\nprepare = []", "builds.x.prepare", "must name a program"),
        ("[builds.x]\ntimeout_seconds = 0", "builds.x.timeout_seconds", "above zero"),
        ('[builds.x]\nenvironment = ["1"]', "builds.x.environment", "name of a variable"),
    ],
)
def test_a_bad_file_is_refused_with_file_key_and_reason(text: str, key: str, reason: str) -> None:
    message = refusal(text)

    assert message.startswith(f"agents.toml: {key}: ")
    assert reason in message


def test_a_plan_needs_each_of_its_agents_and_builds() -> None:
    one_less = (f'[agents.{name}]\nkind = "simulated"\n' for name in TEAM if name != "tim")
    agents = read("".join(one_less))

    check_plan(agents, a_plan(a_stage("a", "roy")))
    with pytest.raises(AgentsFileRefused, match=r"agents\.tim: is missing; stage 'Documentation"):
        check_plan(agents, shipped("standard"))
    stranger = replace(a_stage("a", "roy"), builds=("backend", "mobile"))
    with pytest.raises(AgentsFileRefused, match=r"builds\.mobile: is missing; pipeline 'plan'"):
        check_plan(agents, a_plan(stranger))


def test_a_plan_is_simulated_only_if_all_its_agents_and_builds_are() -> None:
    standard = shipped("standard")
    without_builds = a_plan(a_stage("a", "roy"))
    unknown = a_plan(replace(a_stage("a", "roy"), builds=("mobile",)))

    assert read(SIMULATED_TEAM + SIMULATED_BUILDS).is_simulated(standard)
    assert not read(SIMULATED_TEAM + SIMULATED_BUILDS).is_simulated(unknown)
    assert read(SIMULATED_TEAM).is_simulated(without_builds)
    assert not read('[agents.roy]\ncommand = ["x"]').is_simulated(without_builds)


def test_where_every_agent_is_simulated_a_build_left_out_is_too() -> None:
    assert read(SIMULATED_TEAM).is_simulated(shipped("standard"))

    declared = f'{SIMULATED_TEAM}[builds.backend]\ncommand = ["make"]\n'
    assert not read(declared).is_simulated(shipped("standard"))


def test_where_an_agent_is_a_program_a_build_left_out_is_the_usual_one() -> None:
    backend, frontend = read('[agents.roy]\ncommand = ["agent"]\n').builds.values()

    assert backend == BuildCommand("backend", ("npm", "run", "build"))
    assert frontend == BuildCommand("frontend", ("npm", "run", "build"))


def test_an_agent_without_a_table_is_what_the_defaults_say() -> None:
    agents = read(
        """
        [defaults]
        kind = "clever"
        model = "small"
        environment = ["MY_KEY"]
        [agents.roy]
        model = "large"
        [agents.tim]
        kind = "simulated"
        """
    ).agents

    assert set(agents) == set(TEAM)
    assert agents["jen"] == ProgramAgent(
        "clever", "clever-cli", "clever", model="small", environment=("MY_KEY",)
    )
    assert agents["roy"] == replace(agents["jen"], model="large")
    assert agents["tim"] == SimulatedAgent()


def test_defaults_of_one_kind_do_not_name_the_model_of_another() -> None:
    agents = read(
        """
        [defaults]
        kind = "clever"
        model = "small"
        program = "./clever"
        max_turns = 5
        permissions = "read"
        [agents.roy]
        kind = "plain"
        """
    ).agents

    assert agents["roy"] == ProgramAgent("plain", "plain", "plain", permission=Permission.READ)


def test_all_keys_of_a_program_are_read() -> None:
    agents = read(
        """
        [agents.roy]
        kind = "clever"
        program = "bin/clever"
        model = "large"
        arguments = ["--loud"]
        max_turns = 40
        max_budget_usd = 2.5
        expected_usd = 0.8
        prompt_file = "prompts/roy.md"
        permissions = { run = ["npm test", "npm run build"] }
        environment = ["MY_KEY"]
        instructions = "Use tabs."
        isolation = false
        account = "work"
        resume_after_limit = "ask"
        resume_for_fixes = true
        """
    ).agents

    assert agents["roy"] == ProgramAgent(
        kind="clever",
        program="/project/bin/clever",
        account="work",
        model="large",
        arguments=("--loud",),
        max_turns=40,
        max_budget_usd=2.5,
        expected_usd=0.8,
        prompt_file=HERE / "prompts/roy.md",
        permission=Permission.RUN,
        commands=("npm test", "npm run build"),
        environment=("MY_KEY",),
        instructions="Use tabs.",
        isolation=False,
        after_limit=AfterLimit.ASK,
        resume_for_fixes=True,
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("max_turns = 0", "max_turns: must be at least 1; leave it out"),
        ("max_turns = true", "max_turns: must be a whole number"),
        ("max_budget_usd = -1", "max_budget_usd: must be above zero"),
        ("expected_usd = 0", "expected_usd: must be above zero"),
        ('permissions = "all"', 'permissions: must be "read", "edit", "everything", or'),
        ("permissions = {}", "permissions.run: is missing"),
        ("permissions = { run = [] }", "must name a command"),
        ('permissions = { run = ["rm *"] }', "'rm *' must be the beginning of a command line"),
        ('permissions = { runs = ["x"] }', "permissions.runs: unknown key"),
        ('model = "--help"', "model: '--help' must be one printable line"),
        ('program = "-x"', "program: '-x' must be"),
        ('account = ""', "account: must be a string that is not empty"),
        ('resume_after_limit = "no"', 'resume_after_limit: must be "resume" or "ask"'),
        ('isolation = "yes"', "isolation: must be true or false"),
        ("resume_for_fixes = 1", "resume_for_fixes: must be true or false"),
        ('command = ["x"]', "command: unknown key; known are kind, program"),
        ('environment = ["A=1"]', "'A=1' is not the name of a variable"),
    ],
)
def test_a_bad_value_is_refused_with_its_key_and_remedy(line: str, reason: str) -> None:
    assert reason in refusal(f'[agents.roy]\nkind = "clever"\n{line}\n')


def test_what_a_kind_cannot_hold_is_refused_with_what_to_do_instead() -> None:
    own = '[agents.roy]\nkind = "plain"\n'

    assert "agents.roy.max_turns: cannot be held by plain: count them" in refusal(
        f"{own}max_turns = 3\n"
    )
    assert '"run" cannot be held by plain: use "edit"' in refusal(
        f'{own}permissions = {{ run = ["npm test"] }}\n'
    )
    assert "unknown kind 'other'; known are command, simulated, clever, plain" in refusal(
        '[agents.roy]\nkind = "other"\n'
    )


PREPARED = """
[defaults]
command = ["agent"]
[agents.priya]
prepare = ["frontend"]
[agents.billy]
prepare = []
[agents.vic]
kind = "simulated"
[builds.backend]
directory = "."
prepare = ["make", "deps"]
[builds.frontend]
prepare = ["npm", "ci"]
[builds.contract]
directory = "."
prepare = ["make", "deps"]
[builds.docs]
command = ["make", "docs"]
"""


@pytest.mark.parametrize(
    ("agent", "builds", "prepared"),
    [
        ("roy", ("backend",), ("backend",)),
        ("roy", (), ("backend",)),  # a fix of its own builds nothing
        ("roy", ("frontend", "backend"), ("backend", "frontend")),
        ("roy", ("contract",), ("backend",)),  # the same command in the same place runs once
        ("jen", ("docs",), ("frontend",)),  # without a command there is nothing to run
        ("liz", (), ("frontend",)),
        ("todd", (), ("backend", "frontend")),
        ("berry", (), ("backend", "frontend")),
        ("cynthia", (), ()),
        ("sylvia", (), ()),
        ("tim", (), ()),
        ("priya", (), ("frontend",)),  # the file says so
        ("billy", (), ()),
        ("vic", (), ()),  # it is no process
    ],
)
def test_clones_of_those_who_run_the_project_are_prepared(
    agent: str, builds: tuple[str, ...], prepared: tuple[str, ...]
) -> None:
    stage = replace(a_stage("Some stage", agent), builds=builds)

    assert read(PREPARED).prepared(stage) == prepared


def test_a_build_that_is_prepared_for_an_agent_must_be_there() -> None:
    text = '[defaults]\ncommand = ["agent"]\nprepare = ["bakend"]\n[agents.roy]\n'

    assert "agents.roy.prepare: there is no build 'bakend'" in refusal(text)
    assert refusal('[agents.roy]\nkind = "simulated"\nprepare = []\n')


@pytest.mark.parametrize(
    ("own", "budget"),
    [
        ('kind = "clever"\nmax_budget_usd = 2\nexpected_usd = 1', RunBudget(2.0, 1.0)),
        ('kind = "clever"', RunBudget()),
        ('command = ["x"]\nexpected_usd = 0.5', RunBudget(None, 0.5)),
        ('kind = "simulated"', RunBudget(None, 0.0)),
    ],
)
def test_the_file_says_what_a_run_may_cost(own: str, budget: RunBudget) -> None:
    assert read(f"[agents.roy]\n{own}\n").run_budget("roy") == budget


def test_who_works_elsewhere_has_no_defaults_that_hold_here_and_no_clone_to_prepare() -> None:
    agents = read(
        '[defaults]\nkind = "clever"\npermissions = "edit"\nmax_turns = 5\n'
        '[agents.roy]\nkind = "afar"\n[builds.backend]\nprepare = ["npm", "ci"]'
    )

    roy = agents.agent("roy")
    assert isinstance(roy, ProgramAgent)
    assert (roy.is_remote, roy.max_turns, roy.account) == (True, None, "afar-roy")
    stage = a_stage("Backend Implementation", agent="roy")
    assert agents.prepared(stage) == ()
    assert agents.prepared(replace(stage, agent="billy")) == ("backend",)
    assert "agents.roy.permissions: cannot be held by afar: say it there" in refusal(
        '[agents.roy]\nkind = "afar"\npermissions = "edit"'
    )
