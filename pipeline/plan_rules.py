"""What makes a plan legal as a whole: names, needs, cycles, flags, size."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from pipeline.graph import ancestors, find_cycle
from pipeline.model import Group, Pipeline, Stage
from pipeline.numbers import slug

STAGES_LIMIT = 64
NAME_LENGTH = 60
NEEDS_BYTES = 24 * 1024
"""Bound of all spelt-out needs: the plan travels in the workflow's input, at most 64 KB of it."""
DELIVER = "deliver"
"""The workflow's own last step; `retry REQ deliver` names it like a stage."""

_BUILD_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

Needs = Mapping[str, tuple[str, ...]]


class BrokenRule(Exception):
    """A rule that the plan breaks, with the key that breaks it."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason


def stage_key(name: str) -> str:
    """How a refusal names a stage's table."""
    return f'stages."{name}"'


def group_key(name: str) -> str:
    """How a refusal names a group's table."""
    return f'groups."{name}"'


def is_build_name(name: str) -> bool:
    """Whether a build may be called that; the name is also a directory and part of a run id."""
    return _BUILD_NAME.fullmatch(name) is not None and len(name) <= NAME_LENGTH


def name_problem(name: str) -> str | None:
    """Why a pipeline, group or stage cannot be called that, or None."""
    if len(name) > NAME_LENGTH:
        return f"has {len(name)} characters, at most {NAME_LENGTH}"
    if not name.isprintable() or name != name.strip() or "/" in name:
        return f"{name!r} holds a slash, a control character or a space at an end"
    if not slug(name):
        return f"{name!r} needs a letter or digit, for the branch that is named after it"
    return None


def check_names(groups: Sequence[Group], stages: Sequence[Stage]) -> None:
    """Refuse too many stages, a name twice, a reserved name and stages or groups left alone."""
    if len(stages) > STAGES_LIMIT:
        raise BrokenRule("stages", f"{len(stages)} stages, at most {STAGES_LIMIT}")
    _check_unique("groups", [group.name for group in groups])
    _check_unique("stages", [stage.name for stage in stages])
    _check_branches(stages)
    group_names = {group.name for group in groups}
    for stage in stages:
        if stage.group not in group_names:
            raise BrokenRule(f"{stage_key(stage.name)}.group", f"unknown group {stage.group!r}")
    used = {stage.group for stage in stages}
    for group in groups:
        if group.name not in used:
            raise BrokenRule(group_key(group.name), "has no stages")


def resolved_needs(groups: Sequence[Group], stages: Sequence[Stage], own: Needs) -> Needs:
    """Each stage's needs with the barrier spelt out: its own, or all stages of the groups before.

    Raises: BrokenRule for an unknown need, a cycle, or more needs than a plan may carry.
    """
    group_needs = {group.name: group.needs for group in groups}
    _check_known(group_needs, group_key, "group")
    _check_acyclic(group_needs, "groups")
    needs = {
        stage.name: own.get(stage.name, _barrier(group_needs[stage.group], stages))
        for stage in stages
    }
    _check_known(needs, stage_key, "stage")
    _check_acyclic(needs, "stages")
    size = sum(len(need.encode()) for names in needs.values() for need in names)
    if size > NEEDS_BYTES:
        raise BrokenRule("stages", f"their needs spell out {size} bytes, at most {NEEDS_BYTES}")
    return needs


def check_flags(pipeline: Pipeline) -> None:
    """Refuse a conditional stage whose flag no stage before it can raise."""
    for stage in pipeline.stages:
        if stage.flag is None:
            continue
        before = map(pipeline.stage, ancestors(pipeline, stage.name))
        if not any(stage.flag in earlier.member.raises for earlier in before):
            reason = f"nobody before this stage can raise {stage.flag}: it needs a stage of QA"
            raise BrokenRule(f"{stage_key(stage.name)}.flag", reason)


def _check_unique(key: str, names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise BrokenRule(key, f"{count} are called {name!r}")


def _check_branches(stages: Sequence[Stage]) -> None:
    taken: dict[str, str] = {}
    for stage in stages:
        branch = slug(stage.name)
        if branch == DELIVER:
            raise BrokenRule(stage_key(stage.name), "is the name of the workflow's own last step")
        if stage.name.lower().startswith("build "):
            raise BrokenRule(stage_key(stage.name), "names starting with 'build ' are the builds'")
        if branch in taken:
            reason = f"would share the branch {branch!r} with {taken[branch]!r}"
            raise BrokenRule(stage_key(stage.name), reason)
        taken[branch] = stage.name


def _barrier(group_needs: Sequence[str], stages: Sequence[Stage]) -> tuple[str, ...]:
    return tuple(stage.name for stage in stages if stage.group in group_needs)


def _check_known(needs: Needs, key: Callable[[str], str], kind: str) -> None:
    for name, names in needs.items():
        for need in names:
            if need not in needs:
                raise BrokenRule(f"{key(name)}.needs", f"unknown {kind} {need!r}")


def _check_acyclic(needs: Needs, key: str) -> None:
    cycle = find_cycle(needs)
    if cycle:
        raise BrokenRule(key, f"a cycle: {' needs '.join(cycle)}")
