"""The rules of bookkeeping, stated on rows and events.

Every failure has an owner and a row, bounds hold, nothing is paid twice or left open.
"""

from collections.abc import Iterator
from itertools import pairwise

from pipeline.team import TEAM, Role
from tests.outcomes.records import Records, Row, unique
from tests.plans import OWNERS

_UNOWNED = ("infrastructure", "refused", "delivery")
_FINAL = ("DELIVERED", "FAILED", "CANCELLED")
_ANSWERS = ("retry", "request-changes", "approve", "rework")
_SEVERITIES = {"ERROR": 1, "CRITICAL": 2, "CATASTROPHIC": 3}


def check_records(records: Records) -> None:
    """Whatever the end, the books are in order."""
    _check_ends(records)
    _check_failures(records)
    _check_fixes(records)
    _check_bounds(records)
    _check_severity(records)
    _check_repeats(records)
    _check_events(records)


def _check_ends(records: Records) -> None:
    for row in records.every("requirements"):
        assert row["state"] in _FINAL, f"{row['number']} is left {row['state']}"
        assert row["waiting_for"] == "", f"{row['number']} still waits for {row['waiting_for']}"
    left = [row for row in records.every("blockers") if row["resolved_at"] is None]
    left += [row for row in records.every("escalations") if row["answered_at"] is None]
    if records.root["state"] == "DELIVERED":
        left += [row for row in records.of("failures") if row["resolved_at"] is None]
    assert not left, f"left open: {left}"


# --- failures -------------------------------------------------------------------------------


def _check_failures(records: Records) -> None:
    for row in records.every("failures"):
        assert row["owners"] or row["kind"] in _UNOWNED, f"nobody owns {row}"
    reds = [*_red_runs(records), *_red_builds(records), *_red_merges(records)]
    for what, at, gates, reported in reds:
        if _is_reported_time(records, at):
            known = any(row["gate"] in gates and row["created_at"] >= at for row in reported)
            assert known, f"{what} is red, and no row tells of it"


Red = tuple[str, object, set[str], list[Row]]


def _red_runs(records: Records) -> Iterator[Red]:
    """Runs that ended red and were not tried again at once; a fix's may be told by either."""
    for run in records.every("runs"):
        if run["state"] in ("failed", "blocked") and not _is_tried_again(records, run):
            stages = {run["stage"], *_repaired_stages(records, run["number"])}
            gates = {f"{word} {s}" for s in stages for word in _WORDS}
            rows = [*records.of("failures"), *records.of("failures", run["number"])]
            yield run["run_id"], run["closed_at"], gates, rows


_WORDS = ("run", "verdict", "critique", "merge")


def _repaired_stages(records: Records, number: str) -> Iterator[str]:
    for fix in records.every("fixes", number=number):
        yield str(fix["failure"]["stage"])
        yield from _repaired_stages(records, _parent(records, number))


def _red_builds(records: Records) -> Iterator[Red]:
    """Builds that were red, unless the next verification was green before anything was said."""
    for gate in records.of("gates", verdict="red"):
        if gate["gate"].startswith("build "):
            green = records.of("gates", gate=gate["gate"], verdict="green")
            later = [one for one in green if one["ended_at"] >= gate["ended_at"]]
            rows = records.of("failures", commit=gate["commit"])
            if rows or not later:
                yield gate["gate_id"], gate["ended_at"], {gate["gate"]}, rows


def _red_merges(records: Records) -> Iterator[Red]:
    for gate in records.every("gates", verdict="red"):
        if gate["gate"].startswith("merge "):
            rows = [*records.of("failures"), *records.of("failures", gate["number"])]
            yield gate["gate_id"], gate["ended_at"], {gate["gate"]}, rows


def _is_reported_time(records: Records, at: object) -> bool:
    """Nothing is reported any more once a requirement is given up."""
    given_up = records.root["state"] != "DELIVERED"
    last = max((row["created_at"] for row in records.every("failures")), default=None)
    return not given_up or (last is not None and at is not None and at <= last)


def _is_tried_again(records: Records, run: Row) -> bool:
    told = records.of("events", run["number"], type="stage.failed")
    mine = [e["payload"] for e in told if str(e["event_id"]).startswith(f"{run['run_id']}:")]
    return any(payload["action"] == "RETRY" for payload in mine)


# --- fixes ----------------------------------------------------------------------------------


def _check_fixes(records: Records) -> None:
    for fix in records.every("fixes"):
        (row,) = records.of("requirements", fix["number"])
        assert fix["root"] == records.number
        assert row["parent"] == fix["number"].rpartition("-FIX-")[0]
        assert row["priority"] == records.root["priority"]
        assert records.of("blockers", blocked_by=fix["number"]), f"{fix['number']} blocks nothing"
        first = _first(records, fix)
        assert row["assignee"] in first["failure"]["owners"], f"{fix['number']} is not its owner's"


def _first(records: Records, fix: Row) -> Row:
    """The fix of the requirement itself that this one follows."""
    while fix["depth"] > 1:
        fix = records.every("fixes", number=_parent(records, fix["number"]))[0]
    return fix


def _parent(records: Records, number: str) -> str:
    return str(records.of("requirements", number)[0]["parent"])


def _check_bounds(records: Records) -> None:
    bounds = records.scenario.bounds
    fixes = records.every("fixes")
    for fix in fixes:
        assert fix["depth"] == fix["number"].count("-FIX-")
        assert fix["depth"] < bounds.depth, f"{fix['number']} is too deep"
    for gate in {fix["gate"] for fix in fixes if fix["depth"] == 1}:
        rounds = sorted({f["round"] for f in fixes if f["depth"] == 1 and f["gate"] == gate})
        answers = sorted(n["round"] for n in records.of("notes") if n["kind"] in _ANSWERS)
        _check_tries(gate, rounds, answers, bounds.reds - 1)
    assert len(records.of("notes", kind="rework")) <= bounds.reviews


def _check_tries(gate: str, rounds: list[int], answers: list[int], most: int) -> None:
    """Between two answers, a gate gets so many fixes at most."""
    ends = [*answers, max(rounds)]
    begin = 0
    for end in ends:
        tries = [r for r in rounds if begin < r <= end]
        assert len(tries) <= most, f"{gate} got {len(tries)} fixes in rounds {tries}"
        begin = end


def _check_severity(records: Records) -> None:
    """A report is as bad as the worst failure that is still open when it is made."""
    for event in records.every("events", type="workflow.blocked"):
        said, at = _SEVERITIES[event["payload"]["severity"]], event["created_at"]
        still_open = [
            row["severity"]
            for row in records.of("failures", event["number"])
            if row["created_at"] <= at and (row["resolved_at"] is None or row["resolved_at"] > at)
        ]
        assert said >= max(still_open), f"{event['event_id']} says less than what is open"


# --- nothing twice --------------------------------------------------------------------------


def _check_repeats(records: Records) -> None:
    assert unique(records.started), "an agent was started twice for one run"
    for run in records.every("runs"):
        assert run["starts"] <= 1, f"{run['run_id']} was started {run['starts']} times"
    for stage in records.plan.stages:
        runs = records.of("runs", stage=stage.name)
        for done, again in pairwise(runs):
            if done["state"] == "completed":
                why = _is_answered(records, done, again) or _is_stale(records, done, again)
                assert why, f"{again['run_id']} repeats what was green"


def _is_answered(records: Records, done: Row, again: Row) -> bool:
    return any(
        done["stage"] in note["stages"] and done["closed_at"] <= note["at"] <= again["opened_at"]
        for note in records.of("notes")
        if note["kind"] in _ANSWERS
    )


def _is_stale(records: Records, done: Row, again: Row) -> bool:
    """Whether a fix of the side it judges, or of its side's testers' flags, came in between."""
    agent = TEAM[done["agent"]]
    owners = (OWNERS[agent.side],) if agent.side else tuple(OWNERS.values())
    merged = [
        fix
        for fix in records.every("fixes")
        if records.of("requirements", fix["number"])[0]["assignee"] in owners
        and any(
            gate["ended_at"] <= again["opened_at"] and gate["ended_at"] >= done["opened_at"]
            for gate in records.of("gates", gate=f"merge {fix['number']}", verdict="green")
        )
    ]
    judges = (Role.QA, Role.SPECIALIST, Role.STATISTICS)
    return bool(merged) and agent.role in judges


def _check_events(records: Records) -> None:
    """Each committed event stands in JetStream once."""
    published = [event["eventId"] for event in records.published]
    assert unique(published), "an event stands twice in JetStream"
    told = {e["event_id"] for e in records.every("events")
            if not e["subject"].startswith("agog.deliverables.")}  # fmt: skip
    assert set(published) == told, f"not the same: {set(published) ^ told}"
