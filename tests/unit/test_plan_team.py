"""Agents that a pipeline declares beside the eleven, and what follows from them."""

import pytest

from cli.rehearse import rehearsal_plan
from pipeline.agents_file import CommandAgent, check_plan, read_agents, strangers
from pipeline.errors import AgentsFileRefused, PlanRefused
from pipeline.events import deliverable_subject
from pipeline.model import Pipeline, RequirementRef, Stage, StageContext, StageRequest
from pipeline.model.plan import Priority
from pipeline.notice import accept_notice, notice_schema
from pipeline.plan_file import read_pipeline
from pipeline.prompt import Place, Templates, stage_prompt
from pipeline.team import FLAGS, TEAM, Agent
from pipeline.verdicts import green_notice, judge
from tests.plans import HOUSE, TEMPLATES, shipped

MONOREPO = shipped("monorepo")
RON = '[[agents]]\nname = "ron"\nrole = "implementation"\nside = "backend"\nbuilds = ["orders"]\n'
ADA = '[[agents]]\nname = "ada"\nrole = "specialist"\nflag = "needs_ada"\n'
SUE = '[[agents]]\nname = "sue"\nrole = "qa"\nside = "backend"\n'


def plan_text(declared: str = RON + ADA + SUE, *changes: tuple[str, str]) -> str:
    """Those agents; ron implements, sue tests, ada is asked for."""
    stages = (("Orders", "ron", ""), ("Tests", "sue", ""), ("Access", "ada", 'flag = "needs_ada"'))
    lines, before = ['name = "mine"', declared], ""
    for name, agent, more in stages:
        if f'"{agent}"' in declared or agent in TEAM:
            lines += ["[[groups]]", f'name = "{name}"', f"needs = [{before}]"]
            lines += ["[[stages]]", f'name = "{name}"', f'agent = "{agent}"', f'group = "{name}"']
            lines += ["minutes = 10", more]
            before = f'"{name}"'
    text = "\n".join(lines)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def renamed(name: str) -> str:
    """ron by another name."""
    return plan_text(RON, ('name = "ron"', f'name = "{name}"'))


def refusal(text: str) -> str:
    with pytest.raises(PlanRefused) as refused:
        read_pipeline(text, "mine.toml", {"stage", "other", "translation"})
    return str(refused.value)


def member(agent: str, plan: Pipeline = MONOREPO) -> Agent:
    return next(stage.member for stage in plan.stages if stage.agent == agent)


def stage_of(agent: str) -> Stage:
    return next(stage for stage in MONOREPO.stages if stage.agent == agent)


def owners(agent: str, **fields: object) -> tuple[str, ...]:
    """Who owns the red verdict of an agent of the monorepo."""
    given = {**green_notice(member(agent), "REQ-1"), "test_result": "FAIL", **fields}
    failure = judge(stage_of(agent), accept_notice(given, agent=member(agent), number="REQ-1"))
    assert failure.failure
    return failure.failure.owners


# --- what follows from a declaration --------------------------------------------------------------


def test_a_plan_that_declares_nobody_carries_nobody() -> None:
    for name in ("standard", "one-sided", "critical-path"):
        assert {stage.declared for stage in shipped(name).stages} == {None}


def test_builds_belong_to_whom_they_are_declared_with_and_else_to_their_stage() -> None:
    assert MONOREPO.owners == (("backend", "roy"), ("orders", "ron"), ("mobile", "mia"))
    shared = plan_text(RON + SUE, ('agent = "sue"', 'agent = "sue"\nbuilds = ["orders"]'))
    assert read_pipeline(shared, "").owners == (("orders", "ron"), ("orders", "ron"))


@pytest.mark.parametrize(
    ("agent", "fields", "expected"),
    [
        ("billy", {}, ("roy", "ron")),
        ("billy", {"owner": "Ron"}, ("ron",)),
        ("billy", {"owner": "mia"}, ("roy", "ron")),
        ("max", {}, ("mia",)),
        ("ada", {"owner": "backend"}, ("mia",)),
        ("vic", {}, ("roy", "ron", "mia")),
        ("vic", {"owner": "backend"}, ("roy", "ron")),
        ("vic", {"owner": "mobile"}, ("mia",)),
    ],
)
def test_a_red_verdict_is_owned_by_who_implements_the_side(
    agent: str, fields: dict[str, object], expected: tuple[str, ...]
) -> None:
    assert owners(agent, **fields) == expected


def test_a_red_critique_belongs_to_the_researchers_of_the_plan() -> None:
    assert member("sylvia").owners == (("", "cynthia"),)


@pytest.mark.parametrize(
    ("agent", "raises"),
    [
        ("billy", ("needs_ada", "needs_vic")),
        ("max", ("needs_ada", "needs_vic")),
        ("mia", ("needs_ada",)),
        ("roy", ()),
    ],
)
def test_flags_are_raised_by_testers_and_by_whoever_is_declared_to(
    agent: str, raises: tuple[str, ...]
) -> None:
    who = member(agent)
    given = {**green_notice(who, "REQ-1"), **dict.fromkeys((*FLAGS, "needs_ada"), True)}

    assert accept_notice(given, agent=who, number="REQ-1").flags == raises
    asked = notice_schema(who, "REQ-1")["properties"]
    assert isinstance(asked, dict)
    assert [name for name in asked if name.startswith("needs_")] == list(raises)


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ("billy", ("roy", "ron")),
        ("max", ()),
        ("vic", ("backend", "mobile", "roy", "ron")),
    ],
)
def test_a_notice_names_an_owner_where_there_is_a_choice(
    agent: str, words: tuple[str, ...]
) -> None:
    asked = notice_schema(member(agent), "REQ-1")["properties"]

    assert isinstance(asked, dict)
    assert asked.get("owner", {"enum": [None]})["enum"] == [*words, None]


@pytest.mark.parametrize(
    ("agent", "subject"),
    [
        ("ron", "agog.deliverables.ron.backend.REQ-1"),
        ("max", "agog.deliverables.max.qa-mobile.REQ-1"),
        ("ada", "agog.deliverables.ada.specialist.REQ-1"),
        ("billy", "agog.deliverables.billy.qa-backend.REQ-1"),
    ],
)
def test_deliverables_have_a_subject_of_their_agent(agent: str, subject: str) -> None:
    assert deliverable_subject(member(agent), "REQ-1") == subject


def test_a_rehearsal_builds_what_the_plan_builds_by_the_same_agents() -> None:
    rehearsed = read_pipeline(rehearsal_plan(MONOREPO), "")

    assert rehearsed.owners == MONOREPO.owners
    assert {s.agent for s in rehearsed.stages} == {"roy", "ron", "mia"}


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("agents = []\n" + plan_text(RON).replace(RON, ""), "agents", "must not be empty"),
        (
            renamed("Ron"),
            "agents[0].name",
            "'Ron' must be lower-case",
        ),
        (
            renamed("r.on"),
            "agents[0].name",
            "'r.on' must be lower-case",
        ),
        (renamed("r" * 31), "agents[0].name", "30 at most"),
        (
            renamed("roy"),
            "agents[0].name",
            "roy is one of the eleven",
        ),
        (
            renamed("human"),
            "agents[0].name",
            "stands for something else",
        ),
        (
            renamed("qa"),
            "agents[0].name",
            "stands for something else",
        ),
        (plan_text(RON + RON), 'agents."ron"', "is declared twice"),
        (plan_text(RON + "colour = 1"), 'agents."ron".colour', "unknown key; known are name, role"),
        (
            plan_text(RON.replace("implementation", "magic")),
            'agents."ron".role',
            "unknown role 'magic'; known are research, critique, implementation, qa, specialist, "
            "statistics, devops, documentation; a new one needs instructions here, or the template "
            "prompts/magic.md",
        ),
        (plan_text(RON.replace("implementation", "other")), 'agents."ron".role', "unknown role"),
        (plan_text(RON.replace('side = "backend"\n', "")), 'agents."ron".side', "is missing"),
        (plan_text(RON.replace("backend", "back end")), 'agents."ron".side', "lower-case letters"),
        (
            plan_text(RON + SUE.replace("backend", "bakend")),
            'agents."sue".side',
            "nobody implements the side 'bakend' of sue; sides: backend",
        ),
        (
            plan_text(RON, ('"ron"\ngroup', '"billy"\ngroup')),
            'agents."ron"',
            "has no stage",
        ),
        (
            plan_text(RON + SUE, ('agent = "sue"', 'agent = "liz"')).replace(SUE, ""),
            'stages."Tests"',
            "nobody implements the side 'frontend' of liz; sides: backend",
        ),
        (
            plan_text(RON, ('agent = "ron"', 'agent = "ron"\nbuilds = ["orders", "app"]')),
            'stages."Orders".builds',
            "nobody answers for 'app': name it in the builds of an agent",
        ),
        (
            plan_text(RON, ('agent = "ron"', 'agent = "ron"\nbuilds = []')),
            'agents."ron".builds',
            "'orders' is verified after no stage",
        ),
        (
            plan_text(RON + SUE + 'builds = ["orders"]'),
            'agents."sue".builds',
            "orders is ron's",
        ),
        (
            plan_text(RON + ADA + SUE + 'flag = "needs_ada"'),
            'agents."sue".flag',
            "needs_ada is ada's",
        ),
        (plan_text(RON + ADA.replace("needs_ada", "ada")), 'agents."ada".flag', "must be needs_"),
        (
            plan_text(RON + ADA.replace("needs_ada", "needs_vic")),
            'agents."ada".flag',
            "needs_vic is the flag of one of the eleven",
        ),
        (
            plan_text(RON + ADA + SUE, ('minutes = 10\nflag = "needs_ada"', "minutes = 10")),
            'agents."ada".flag',
            "no stage waits for needs_ada",
        ),
        (
            plan_text(RON + 'raises = ["needs_todd"]\n'),
            'agents."ron".raises',
            "no stage waits for needs_todd",
        ),
        (
            plan_text(RON + ADA + SUE + "raises = []"),
            'stages."Access".flag',
            "nobody before this stage can raise needs_ada",
        ),
        (
            plan_text(RON + f'instructions = "{"x" * 4_001}"'),
            'agents."ron".instructions',
            "4001 characters, at most 4000",
        ),
    ],
)
def test_a_bad_declaration_is_refused_in_one_line(text: str, key: str, reason: str) -> None:
    message = refusal(text)

    assert message.startswith(f"mine.toml: {key}: ")
    assert reason in message
    assert "\n" not in message


def test_what_stages_carry_of_their_agents_is_bounded() -> None:
    text = plan_text(RON + f'instructions = "{"x" * 4_000}"')
    more = '[[stages]]\nname = "More {}"\nagent = "ron"\ngroup = "Orders"\nminutes = 1\n'

    assert len(read_pipeline(text + more.format(1), "").stages) == 2
    message = refusal(text + "".join(map(more.format, range(6))))
    assert message.startswith("mine.toml: agents: in 7 stages they have 29")
    assert message.endswith("at most 24576: shorten their instructions")


# --- what an added agent is told, and how it runs -------------------------------------------------


def told(stage: Stage, templates: Templates = TEMPLATES) -> str:
    request = StageRequest(RequirementRef("REQ-7", "run"), Priority.P2, stage, 1, None, 0.0)
    return stage_prompt(templates, request, StageContext("A title", "Do it."), Place()).text


def test_a_role_of_its_own_is_instructed_by_its_plan_or_its_template() -> None:
    translator = RON.replace("implementation", "translation").replace('side = "backend"\n', "")
    instructed = read_pipeline(plan_text(f'{translator}instructions = "Into French."'), "")
    by_template = read_pipeline(plan_text(translator), "", {"translation"})

    (stage,) = instructed.stages
    assert "Do what the instructions below ask of you" in told(stage)
    assert "Into French." in told(stage)
    own = Templates({**TEMPLATES.texts, "translation": "Translate for $stage."})
    assert "Translate for Orders." in told(by_template.stages[0], own)
    assert stage.member.token == "translation"
    assert judge(
        stage, accept_notice(green_notice(stage.member, "R"), agent=stage.member, number="R")
    )


def test_an_agent_is_told_of_those_beside_it() -> None:
    assert "Others implement this side as well, each in a clone of their own: ron." in told(
        stage_of("roy")
    )
    assert "Others implement this side" not in told(stage_of("mia"))
    assert '"owner": "roy | ron"' in told(stage_of("billy"))


DEFAULTS = '[defaults]\ncommand = ["x"]\n'
BUILDS = "".join(
    f'[builds.{name}]\ndirectory = "{name}"\nprepare = ["deps"]\n'
    for name in ("backend", "orders", "mobile")
)


def test_an_added_agent_runs_by_its_own_table_or_by_the_defaults() -> None:
    lacking = read_agents(
        BUILDS + "".join(f'[agents.{n}]\ncommand = ["x"]\n' for n in TEAM), "a", HOUSE
    )
    with pytest.raises(AgentsFileRefused, match=r"agents\.ron: is missing; stage 'Orders Impl"):
        check_plan(lacking, MONOREPO)

    agents = read_agents(DEFAULTS + '[agents.mia]\ncommand = ["y"]\n' + BUILDS, "a", HOUSE)
    check_plan(agents, MONOREPO)
    assert agents.agent("ron") == CommandAgent(("x",))
    assert agents.agent("mia") == CommandAgent(("y",))


@pytest.mark.parametrize(
    ("agent", "prepared"),
    [
        ("ron", ("backend", "orders")),
        ("billy", ("backend", "orders")),
        ("max", ("mobile",)),
        ("ada", ("mobile",)),
        ("vic", ("backend", "orders", "mobile")),
        ("tim", ()),
    ],
)
def test_clones_are_prepared_for_the_builds_of_a_side(
    agent: str, prepared: tuple[str, ...]
) -> None:
    agents = read_agents(DEFAULTS + BUILDS, "a", HOUSE)

    assert agents.prepared(stage_of(agent)) == prepared


def test_the_defaults_prepare_for_added_agents_what_they_say() -> None:
    agents = read_agents(f'{DEFAULTS}prepare = ["mobile"]\n{BUILDS}', "a", HOUSE)

    assert agents.prepared(stage_of("ron")) == ("mobile",)


def test_an_agent_of_the_file_that_no_plan_knows_is_named() -> None:
    agents = read_agents(f"{DEFAULTS}[agents.ron]\n[agents.ryo]\n", "a", HOUSE)

    (line,) = strangers(agents, (MONOREPO,))
    assert line.startswith("agents.ryo: neither one of the eleven nor declared")
    assert len(strangers(agents, (shipped("standard"),))) == 2
