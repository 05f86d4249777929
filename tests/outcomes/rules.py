"""The rules of evidence (design, section 3), stated on rows and commits.

A merge is what it brought in: the commit of an agent's run, or of a fix.
"""

from collections.abc import Iterator

from pipeline.graph import ancestors
from pipeline.model import Pipeline, Stage
from pipeline.team import TEAM, Role
from tests.outcomes.agents import broken
from tests.outcomes.records import Records, Row
from tests.plans import OWNERS

_JUDGES = (Role.QA, Role.SPECIALIST, Role.STATISTICS)
_DONE = ("completed", "skipped")


def check_delivered(records: Records) -> None:
    """Everything that a delivered commit stands on is green, and green for it."""
    assert records.root["head_commit"], "a delivery without a commit"
    _check_builds(records)
    _check_states(records)
    for stage in records.plan.stages:
        if records.stage(stage.name)["state"] == "completed":
            _check_verdict(records, stage)
    for merge in _merges(records, None):
        assert records.holds(records.delivered, merge), f"{merge} is merged but not delivered"


def check_starts(records: Records) -> None:
    """No agent began before what it needs, or on builds that nobody had seen green."""
    for run in records.of("runs"):
        stage = records.plan.stage(run["stage"])
        for need in ancestors(records.plan, stage.name):
            state = _state_at(records, need, run)
            assert state in _DONE, f"{run['run_id']} began while {need} was {state}"
        if run["run_id"] in records.bases:
            _check_ground(records, stage, run)


# --- the delivered commit -------------------------------------------------------------------


def _check_builds(records: Records) -> None:
    for build in records.plan.builds:
        proofs = records.of("gates", gate=f"build {build}", commit=records.delivered)
        assert proofs, f"build {build} was never verified on {records.delivered}"
        assert proofs[-1]["verdict"] == "green", f"build {build} is red on what was delivered"
        assert broken(build) not in records.tree, f"the delivered tree breaks build {build}"


def _check_states(records: Records) -> None:
    for row in records.of("stages"):
        assert row["state"] in _DONE, f"{row['stage']} is {row['state']} in a delivery"
        flag = records.plan.stage(row["stage"]).flag
        if row["state"] == "skipped":
            raised = {flag for run in _standing(records) for flag in _flags(run)}
            assert flag not in raised, f"{row['stage']} was skipped, but {flag} stands"


def _check_verdict(records: Records, stage: Stage) -> None:
    """The verdict of the run that stands is green and knows every merge of the side it judges."""
    role = TEAM[stage.agent].role
    if role == Role.CRITIQUE:
        _check_critique(records, stage)
    if role not in _JUDGES:
        return
    verdict = _verdict_of(records, records.stage(stage.name))
    said = _said(records, stage, "overall" if role == Role.STATISTICS else "test_result")
    assert (verdict["verdict"], said) == ("green", "PASS"), f"{stage.name} has passed, {verdict}"
    for merge in _merges(records, TEAM[stage.agent].side):
        known = records.holds(verdict["commit"], merge)
        assert known, f"{verdict['gate']} is from {verdict['commit']}, without {merge}"


def _check_critique(records: Records, stage: Stage) -> None:
    verdict = _verdict_of(records, records.stage(stage.name))
    approved = any(stage.name in note["stages"] for note in records.of("notes", kind="approve"))
    said = _said(records, stage, "critique_verdict")
    green = (verdict["verdict"], said) == ("green", "APPROVED")
    assert green or approved, f"{stage.name} passed without an approval"


def _said(records: Records, stage: Stage, word: str) -> object:
    """The agent's own word in the run that stands."""
    (run,) = records.every("runs", run_id=records.stage(stage.name)["run_id"])
    return (run["notice"] or {}).get(word)


def _verdict_of(records: Records, row: Row) -> Row:
    """The latest verdict of the run that stands for the stage: its own, or a fix's."""
    gates = [
        gate
        for gate in records.every("gates")
        if gate["gate_id"].startswith((f"{row['run_id']}/verdict", f"{row['run_id']}/critique"))
    ]
    assert gates, f"{row['stage']} is completed by {row['run_id']}, which gave no verdict"
    return gates[-1]


def _standing(records: Records) -> Iterator[Row]:
    """The runs that stand for the stages that are completed."""
    for row in records.of("stages", state="completed"):
        yield from records.every("runs", run_id=row["run_id"])


def _flags(run: Row) -> list[str]:
    notice = run["notice"] or {}
    flags = [flag for flag in ("needs_todd", "needs_vic") if notice.get(flag)]
    return flags if TEAM[run["agent"]].raises else []


# --- merges ---------------------------------------------------------------------------------


def _merges(records: Records, side: str | None) -> Iterator[str]:
    """What the owner of a side, and its fixes, have brought in; of either side for None."""
    owners = (OWNERS[side],) if side else tuple(OWNERS.values())
    for stage in records.plan.stages:
        if stage.agent in owners:
            yield from stage_merges(records, stage)
    for fix in records.every("fixes", root=records.number):
        if _assignee(records, fix) in owners:
            yield from _fix_merges(records, fix)


def stage_merges(records: Records, stage: Stage) -> Iterator[str]:
    for gate in records.of("gates", gate=f"merge {stage.name}", verdict="green"):
        (run,) = records.of("runs", run_id=gate["gate_id"].rpartition("/merge ")[0])
        yield run["commit"]


def _fix_merges(records: Records, fix: Row) -> Iterator[str]:
    for gate in records.of("gates", gate=f"merge {fix['number']}", verdict="green"):
        yield gate["commit"]


def _assignee(records: Records, fix: Row) -> str:
    return str(records.of("requirements", fix["number"])[0]["assignee"])


# --- starts ---------------------------------------------------------------------------------


def _state_at(records: Records, stage: str, run: Row) -> str:
    """Where a stage stood when a run was opened."""
    (opened,) = [
        phase["id"]
        for phase in records.of("phase_history", stage=run["stage"], target="running")
        if phase["at"] == run["opened_at"]
    ]
    before = [p for p in records.of("phase_history", stage=stage) if p["id"] < opened]
    return str(before[-1]["target"]) if before else "waiting"


def _check_ground(records: Records, stage: Stage, run: Row) -> None:
    """Each build before the stage was green on a commit with the builders' merges of its base.

    For a deployment it was green on the very base.
    """
    base = records.bases[run["run_id"]]
    merges = [m for m in _builders_merges(records, stage) if records.holds(base, m)]
    for build in _builds_before(records, stage):
        proofs = [
            gate
            for gate in records.of("gates", gate=f"build {build}", verdict="green")
            if gate["ended_at"] <= run["opened_at"] and records.holds(base, gate["commit"])
        ]
        if TEAM[stage.agent].role == Role.DEVOPS:
            proofs = [gate for gate in proofs if gate["commit"] == base]
        assert any(all(records.holds(gate["commit"], m) for m in merges) for gate in proofs), (
            f"{run['run_id']} began on {base}, where build {build} was not known to be green"
        )


def _builders(plan: Pipeline, records: Records, stage: Stage) -> Iterator[Stage]:
    for name in ancestors(plan, stage.name):
        if plan.stage(name).builds and records.stage(name)["state"] != "skipped":
            yield plan.stage(name)


def _builds_before(records: Records, stage: Stage) -> set[str]:
    return {b for builder in _builders(records.plan, records, stage) for b in builder.builds}


def _builders_merges(records: Records, stage: Stage) -> Iterator[str]:
    for builder in _builders(records.plan, records, stage):
        yield from stage_merges(records, builder)
        for fix in records.every("fixes", root=records.number, stage=builder.name):
            yield from _fix_merges(records, fix)
