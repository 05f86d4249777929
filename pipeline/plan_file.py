"""Reads a pipeline file: TOML text in, a checked `Pipeline` out.

The format is for users; `pipelines/standard.toml` explains it. What makes a plan legal as a whole
stands in `plan_rules`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from pipeline import plan_rules
from pipeline.errors import PlanRefused
from pipeline.graph import topological_order
from pipeline.model import Bounds, Group, Pipeline, Stage
from pipeline.plan_team import Team, flags_of, read_team, with_team
from pipeline.team import TEAM
from pipeline.toml_table import Table, read_table

MINUTES_LIMIT = 30 * 24 * 60
"""Longest duration that a file may state: thirty days, which is what the streams keep."""
RETRIES_LIMIT = 10
BOUND_LIMIT = 20
DEPTH_LIMIT = 6
"""Each level makes the numbers of fixes longer, and branches are named after them."""
MONEY_LIMIT = 1e6
EXTENSION_LIMIT = 100
GRACE_MINUTES = 5.0
DEADLINE_FACTOR = 2
"""No paid run ends at its nominal minute (design, section 1)."""

_BOUND_KEYS = (
    "reds",
    "depth",
    "reviews",
    "hours",
    "usd",
    "warn_usd",
    "reminder_hours",
    "extension_factor",
)
_STAGE_KEYS = (
    "name",
    "agent",
    "group",
    "minutes",
    "builds",
    "needs",
    "deadline_minutes",
    "grace_minutes",
    "retries",
    "flag",
)


def read_pipeline(text: str, source: str, templates: Collection[str] = ()) -> Pipeline:
    """The pipeline that a file's text describes; `source` names the file in refusals.

    `templates` are the names of those in `prompts/`: a role that is added may have one.
    Stages keep the order of the file where that is a legal sequential order.

    Raises: PlanRefused naming file, key and reason.
    """
    table = read_table(text, lambda key, reason: PlanRefused(source, key, reason))
    table.allow(("name", "bounds", "agents", "groups", "stages"))
    name = _name(table)
    bounds = _bounds(table.table("bounds"))
    groups = tuple(_group(entry) for entry in table.tables("groups"))
    entries = _named(table.tables("stages"))
    declared = table.tables("agents") if "agents" in table.values else ()
    try:
        team = read_team(declared, templates)
        stages = tuple(_stage(entry, name, team) for name, entry in entries)
        plan_rules.check_names(groups, stages)
        needs = plan_rules.resolved_needs(groups, stages, _own_needs(entries))
        ordered = {stage.name: replace(stage, needs=needs[stage.name]) for stage in stages}
        order = topological_order(needs)
        pipeline = Pipeline(name, groups, tuple(ordered[name] for name in order), bounds)
        pipeline = with_team(pipeline, team)
        plan_rules.check_flags(pipeline)
    except plan_rules.BrokenRule as broken:
        raise PlanRefused(source, broken.key, broken.reason) from broken
    return pipeline


def read_durations(text: str, source: str) -> Mapping[str, float]:
    """Minutes by stage name from TOML lines like `"Backend QA" = 30`.

    Raises: PlanRefused naming file, key and reason.
    """
    table = read_table(text, lambda key, reason: PlanRefused(source, key, reason))
    return {name: table.number(name, most=MINUTES_LIMIT) for name in table.values}


def _name(table: Table) -> str:
    name = table.string("name")
    problem = plan_rules.name_problem(name)
    if problem:
        table.refuse("name", problem)
    return name


def _bounds(table: Table) -> Bounds:
    table.allow(_BOUND_KEYS)
    usual = Bounds()
    usd, warn_usd = (_dollars(table, key) for key in ("usd", "warn_usd"))
    if usd is not None and warn_usd is not None and warn_usd > usd:
        table.refuse("warn_usd", f"must be no more than usd, which is {usd:g}")
    return Bounds(
        reds=table.integer("reds", usual.reds, most=BOUND_LIMIT),
        depth=table.integer("depth", usual.depth, most=DEPTH_LIMIT),
        reviews=table.integer("reviews", usual.reviews, most=BOUND_LIMIT),
        work=_hours(table, "hours", usual.work),
        usd=usd,
        warn_usd=warn_usd,
        reminder=_hours(table, "reminder_hours", usual.reminder),
        extension_factor=table.number(
            "extension_factor", usual.extension_factor, most=EXTENSION_LIMIT
        ),
    )


def _dollars(table: Table, key: str) -> float | None:
    return table.number(key, most=MONEY_LIMIT) if key in table.values else None


def _hours(table: Table, key: str, usual: timedelta) -> timedelta:
    hours = table.number(key, usual / timedelta(hours=1), most=MINUTES_LIMIT / 60)
    return timedelta(hours=hours)


def _group(table: Table) -> Group:
    name = _name(table)
    table = table.moved(plan_rules.group_key(name))
    table.allow(("name", "needs"))
    return Group(name, _unique(table.strings("needs", ())))


def _named(tables: Sequence[Table]) -> tuple[tuple[str, Table], ...]:
    named = ((_name(table), table) for table in tables)
    return tuple((name, table.moved(plan_rules.stage_key(name))) for name, table in named)


def _stage(table: Table, name: str, team: Team) -> Stage:
    table.allow(_STAGE_KEYS)
    agent = _known(table, "agent", table.string("agent"), (*TEAM, *team))
    minutes = table.number("minutes", most=MINUTES_LIMIT)
    deadline = table.number("deadline_minutes", minutes * DEADLINE_FACTOR, most=MINUTES_LIMIT * 2)
    grace = table.number("grace_minutes", GRACE_MINUTES, most=MINUTES_LIMIT, zero=True)
    return Stage(
        name=name,
        agent=agent,
        group=table.string("group"),
        needs=(),
        minutes=minutes,
        deadline=timedelta(minutes=deadline),
        grace=timedelta(minutes=grace),
        retries=table.integer("retries", 0, most=RETRIES_LIMIT),
        flag=_flag(table, team),
        builds=_builds(table, team[agent].agent.builds if agent in team else ()),
    )


def _flag(table: Table, team: Team) -> str | None:
    if "flag" not in table.values:
        return None
    return _known(table, "flag", table.string("flag"), flags_of(team))


def _known(table: Table, key: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        table.refuse(key, f"unknown {key} {value!r}; known are {', '.join(known)}")
    return value


def _builds(table: Table, usual: tuple[str, ...]) -> tuple[str, ...]:
    builds = _unique(table.strings("builds", usual))
    for build in builds:
        if not plan_rules.is_build_name(build):
            table.refuse("builds", f"{build!r} must be lower-case letters, digits and hyphens")
    return builds


def _own_needs(entries: Sequence[tuple[str, Table]]) -> Mapping[str, tuple[str, ...]]:
    return {
        name: _unique(table.strings("needs")) for name, table in entries if "needs" in table.values
    }


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
