"""Hosts tell that they live; the requirements of one that is lost move to another.

The host in a requirement's row is the fence: what starts, records or delivers for it asks that row
first, in its own transaction. A requirement never returns to a host that it has left. What that
means for a workflow: docs/architecture.md, "Lost hosts".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.deliveries import leave_line
from adapters.sdlc.tables import (
    BeatRow,
    DeliveryTurnRow,
    FixRow,
    GateRow,
    MoveRow,
    RequirementRow,
    RunRow,
    is_open,
)
from adapters.sdlc.transaction import RequirementWrite, lock_rows
from pipeline.errors import HostBack, HostLost, RequirementMoved
from pipeline.events import EventType
from pipeline.lost_hosts import Beats, Merged, Moving, OpenRun, Part, was_delivering
from pipeline.model import RequirementState, StageState

_OPEN_RUN = and_(
    RunRow.end.is_(None), RunRow.state.in_([str(StageState.RUNNING), str(StageState.HELD)])
)


@dataclass(frozen=True)
class Heard:
    """The last beats of the other hosts that have something to do, and what has left this one.

    `moved` names the requirements and fixes that others continue, each with its host.
    """

    beats: Beats
    moved: Mapping[str, str]


# --- beats ----------------------------------------------------------------------------------------


async def beat(connection: AsyncConnection, host: str, *, may_be_lost: bool = True) -> Heard:
    """Tell that this host lives, and hear the others.

    One that may not be lost has no beat: nobody waits for it, and nothing of it moves.
    """
    mine = BeatRow.host == host
    if may_be_lost:
        now = func.clock_timestamp()
        row = insert(BeatRow).values(host=host, at=now)
        await connection.execute(
            row.on_conflict_do_update(index_elements=["host"], set_={"at": now})
        )
    else:
        await connection.execute(delete(BeatRow).where(mine))
    has_work = or_(
        select(RequirementRow.number)
        .where(RequirementRow.host == BeatRow.host, is_open())
        .exists(),
        # A workflow may not know yet that its requirement has moved.
        select(MoveRow.number)
        .join(RequirementRow, RequirementRow.number == MoveRow.number)
        .where(MoveRow.lost == BeatRow.host, is_open())
        .exists(),
    )
    beats = await connection.execute(select(BeatRow.host, BeatRow.at).where(~mine, has_work))
    moved = await connection.execute(
        select(RequirementRow.number, RequirementRow.host)
        .join(MoveRow, MoveRow.number == RequirementRow.number)
        .where(MoveRow.lost == host, is_open())
    )
    return Heard(
        {name: at.isoformat() for name, at in beats}, {number: str(to) for number, to in moved}
    )


async def stay_here(connection: AsyncConnection, number: str, host: str) -> None:
    """Own the requirement's row, unless another host has it by now.

    Raises: RequirementMoved.
    """
    query = select(RequirementRow.host).where(RequirementRow.number == number).with_for_update()
    has_it = (await connection.execute(query)).scalar()
    if has_it not in (None, host):
        raise RequirementMoved(number, host, str(has_it))


async def open_on(connection: AsyncConnection, host: str) -> Sequence[str]:
    """The requirements and fixes of a host that have not ended."""
    query = select(RequirementRow.number).where(RequirementRow.host == host, is_open())
    return list((await connection.execute(query)).scalars())


# --- moves ----------------------------------------------------------------------------------------


async def moving(connection: AsyncConnection, number: str, lost: str) -> Moving | None:
    """What of a requirement, or of the one that a fix repairs, would move; None if there is none.

    Raises: RequirementMoved if it has left the lost host.
    """
    of_fix = select(FixRow.root).where(FixRow.number == number)
    root = (await connection.execute(of_fix)).scalar() or number
    query = select(RequirementRow.host).where(RequirementRow.number == root)
    found = (await connection.execute(query)).one_or_none()
    if found is None or found.host is None:
        return None
    if found.host != lost:
        raise RequirementMoved(number, lost, found.host)
    left = await connection.execute(select(MoveRow.lost).where(MoveRow.number == root))
    commit, place = await _delivering(connection, root)
    return Moving(
        root, lost, await _parts(connection, root, lost), list(left.scalars()), commit, place
    )


async def move(connection: AsyncConnection, what: Moving, host: str, beat: str) -> None:
    """Continue the requirement on `host`; a repeat does nothing.

    Raises: HostBack if the lost host has told more than that `beat`, HostLost if it was delivering,
        RequirementMoved if another host was faster.
    """
    numbers = [part.number for part in what.parts]
    await lock_rows(connection, set(numbers))
    write = await RequirementWrite.lock(connection, what.number)
    if write.row["host"] == host:
        return
    if write.row["host"] != what.host:
        raise RequirementMoved(what.number, what.host, str(write.row["host"]))
    last = select(BeatRow.at).where(BeatRow.host == what.host).with_for_update()
    at = (await connection.execute(last)).scalar_one_or_none()
    if at is None or at.isoformat() != beat:
        raise HostBack(f"Host {what.host} is back.")
    if (await _delivering(connection, what.number))[0]:
        raise HostLost(was_delivering(what))
    await leave_line(write, keeps_place=False)
    await _move_rows(write, what, host, numbers)
    fields = {"from": what.host, "host": host, "commit": what.parts[0].base and _tip(what)}
    occurrence = 1 + len(what.left)
    scope = f"{what.number}/{write.row['workflow_run']}"
    write.tell(scope, EventType.WORKFLOW_MOVED, fields, occurrence=occurrence)
    write.set(host=host)
    await write.flush()


def _tip(what: Moving) -> str:
    """The last commit that the database knows of the requirement's integration branch."""
    return what.parts[0].merged[0].commit if what.parts[0].merged else what.parts[0].base


async def _move_rows(
    write: RequirementWrite, what: Moving, host: str, numbers: Sequence[str]
) -> None:
    connection, requirement = write.connection, RequirementRow
    ours = requirement.number.in_(numbers) & (requirement.host == what.host)
    rows = select(requirement.number, requirement.workflow_run, requirement.head_commit).where(
        ours, requirement.workflow_run.is_not(None)
    )
    moves = [
        {
            "number": number,
            "lost": what.host,
            "host": host,
            "workflow_run": run,
            "head_commit": head,
            "at": write.at,
        }
        for number, run, head in await connection.execute(rows)
    ]
    if moves:
        await connection.execute(insert(MoveRow), moves)
    fixes = ours & (requirement.number != what.number) & is_open()
    await connection.execute(
        update(requirement).where(fixes).values(host=host, updated_at=write.at)
    )
    # Nothing of these was started: they are started there, as the same attempts.
    unstarted = RunRow.number.in_(numbers) & _OPEN_RUN & RunRow.started_at.is_(None)
    await connection.execute(update(RunRow).where(unstarted).values(host=host))


async def _parts(connection: AsyncConnection, root: str, lost: str) -> Sequence[Part]:
    row = RequirementRow
    fixes = select(FixRow.number).where(FixRow.root == root)
    # What a fix has brought may not be merged yet.
    matters = or_(is_open(), row.state == str(RequirementState.DELIVERED))
    query = (
        select(row.number, row.base_commit, row.head_commit)
        .where(or_(row.number == root, and_(row.number.in_(fixes), row.host == lost, matters)))
        .order_by(row.number != root, row.number)
    )
    found = list(await connection.execute(query))
    return [
        Part(
            number,
            base or "",
            await _merged(connection, number, head),
            await _open_runs(connection, number),
        )
        for number, base, head in found
    ]


async def _merged(connection: AsyncConnection, number: str, head: str | None) -> Sequence[Merged]:
    runs = (
        select(RunRow.head_commit, RunRow.stage, RunRow.attempt)
        .where(RunRow.number == number, RunRow.head_commit.is_not(None))
        .order_by(RunRow.closed_at)
    )
    whose = {
        str(commit): f"{stage}, attempt {attempt}"
        for commit, stage, attempt in await connection.execute(runs)
    }
    builds = select(GateRow.commit, GateRow.gate).where(
        GateRow.number == number, GateRow.gate.like("build %"), GateRow.commit != ""
    )
    for commit, gate in await connection.execute(builds):
        whose.setdefault(commit, f"before {gate}")
    first = {head: whose.get(head, "the last merge")} if head else {}
    return [Merged(commit, said) for commit, said in {**first, **whose}.items()]


async def _open_runs(connection: AsyncConnection, number: str) -> Sequence[OpenRun]:
    query = select(RunRow.stage, RunRow.attempt, RunRow.base_commit).where(
        RunRow.number == number, RunRow.end.is_(None)
    )
    return [
        OpenRun(stage, attempt, base or "")
        for stage, attempt, base in await connection.execute(query)
    ]


async def _delivering(connection: AsyncConnection, number: str) -> tuple[str, str]:
    """The commit that it is about to deliver, and where; both empty if it is not.

    A P0 may have taken its turn while its branch was being moved.
    """
    row = DeliveryTurnRow
    query = select(row.commit, row.target_branch, row.repository).where(
        row.number == number,
        row.left_at.is_(None),
        row.commit.is_not(None),
    )
    found = (await connection.execute(query)).one_or_none()
    return (found.commit, f"{found.target_branch} of {found.repository}") if found else ("", "")
