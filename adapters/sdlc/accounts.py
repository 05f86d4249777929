"""Accounts of agents' programs: who waits for one that cannot work now, and which run tries first.

An account has a row while it cannot work. The run that meets the limit writes it as it closes. A
stage that opens looks for it with its slot in hand, after the P0 gate: it is held, or is the one
that tries once the time is over. The row goes when that run ends otherwise, or has worked for as
long as a program asks by itself (`TRIAL`). Whoever was held looks again when it is notified, or
when the time of its hold is over.

Lock order: the requirements' rows, the gate, the account.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc import holds
from adapters.sdlc.tables import AccountRow, RunRow
from adapters.sdlc.transaction import Read, RequirementWrite
from pipeline import accounts
from pipeline.accounts import Limit
from pipeline.errors import RefusedInput
from pipeline.events import EventType, escalation_event, timestamp
from pipeline.model import Hold, RunEnd, StageState

_FIND = (
    select(
        *AccountRow.__table__.columns, RunRow.state, RunRow.started_at, RunRow.number.label("by")
    )
    .outerjoin(RunRow, RunRow.run_id == AccountRow.trying)
    .where(AccountRow.account == bindparam("account"))
)
"""A limited account, and the run that tries it."""
_LOCK = (
    select(AccountRow.account).where(AccountRow.account == bindparam("account")).with_for_update()
)
_TRIED = select(AccountRow.account).where(AccountRow.trying == bindparam("run_id"))

Row = Mapping[str, Any]

# --- a stage opens --------------------------------------------------------------------------------


def account_reads(account: str) -> tuple[Read, ...]:
    """The reads of `held_by_account`, to be sent with the requirement's lock."""
    return ((_FIND, {"account": account}),) if account else ()


async def held_by_account(
    write: RequirementWrite, boundary: str, run_id: str, account: str, *, may_try: bool
) -> Hold | None:
    """Why that run may not start with the account; None: it may, and is the one that tries.

    One that may not try (it has no slot, or something else holds it) passes when the time is over.
    """
    if not account or not await write.read(_FIND, account=account):
        return None
    row = await _locked(write, account)
    if row is None:
        return None
    if _is_proven(row, run_id, write.at):
        await _forget(write, row, "It works.", row["trying"])
        return None
    reason, until = _why_not(row, run_id, write.at)
    if reason:
        by, version = (accounts.named(account),), await holds.share_gate(write)
        return Hold(boundary, by, reason, version, write.at, account=account, until=until)
    if may_try:
        await _change(write.connection, account, {"trying": run_id, "tried_at": write.at})
    return None


def _why_not(row: Row, run_id: str, at: datetime) -> tuple[str, datetime | None]:
    """Why the run may not try the account, and until when; empty if it may.

    A run that tries and does not run any more, or is not started within the time of a trial, was
    lost with its host or cancelled: the next one tries.
    """
    account, words, until = row["account"], row["words"], row["until"]
    if row["needs_human"]:
        return accounts.asks_human(words, account, until), None
    if row["trying"]:
        over = _trial_over(row)
        is_free = _is_of_stage(row["trying"], run_id) or row["state"] != StageState.RUNNING
        if is_free or over <= at:
            return "", None
        return accounts.is_tried(words, account, row["by"]), over
    return (accounts.waits(words, account, until), until) if until > at else ("", None)


def _is_proven(row: Row, run_id: str, at: datetime) -> bool:
    """Whether the run that tries has worked for so long that its account must be able to."""
    is_running = row["state"] == StageState.RUNNING and row["started_at"]
    return bool(is_running) and not _is_of_stage(row["trying"], run_id) and _trial_over(row) <= at


def _trial_over(row: Row) -> datetime:
    # A run whose session is resumed was started long before it tries the account.
    since: datetime = max(filter(None, (row["started_at"], row["tried_at"])))
    return since + accounts.TRIAL


def _is_of_stage(trying: str, run_id: str) -> bool:
    """Whether the run that tries is this one, or a lost attempt of its stage."""
    return trying.rpartition("/")[0] == run_id.rpartition("/")[0]


# --- a run closes ---------------------------------------------------------------------------------


def trial_reads(run_id: str) -> tuple[Read, ...]:
    """The read of `end_trial`, to be sent with the requirement's lock."""
    return ((_TRIED, {"run_id": run_id}),)


async def record_limit(write: RequirementWrite, run_id: str, limit: Limit, scope: str = "") -> bool:
    """The run has met a limit of its account; of several that meet it, one says so.

    `scope` names who says so where the run may do it again: its id is the default. Returns whether
    somebody may be held by it already, and has to look again.
    """
    scope = scope or run_id
    if await write.read(_FIND, account=limit.account):
        await holds.lock_gate(write.connection)
    first = insert(AccountRow).values(
        account=limit.account,
        words=limit.words,
        since=write.at,
        until=_until(limit, 0, write.at),
        pauses=1,
        needs_human=limit.needs_human,
        number=write.number,
    )
    told = first.on_conflict_do_nothing().returning(AccountRow.account)
    if (await write.connection.execute(told)).first() is not None:
        _tell_limit(write, scope, limit, _until(limit, 0, write.at))
        if limit.needs_human:
            _ask(write, scope, limit)
        return False
    row = await _locked(write, limit.account)
    if row is None:
        return True
    is_trier = row["trying"] == run_id
    changes: dict[str, object] = {"words": limit.words, "number": write.number}
    if is_trier:
        until = _until(limit, row["pauses"], write.at)
        changes |= {"trying": None, "tried_at": None, "pauses": row["pauses"] + 1, "until": until}
        _tell_limit(write, scope, limit, until)
    elif limit.until and row["until"] and not row["trying"]:
        changes["until"] = max(limit.until, row["until"])
    if limit.needs_human and not row["needs_human"]:
        changes["needs_human"] = True
        _ask(write, scope, limit)
    await _change(write.connection, limit.account, changes)
    return True


async def end_trial(write: RequirementWrite, run_id: str, end: RunEnd) -> bool:
    """The run has ended without a limit; whether it was the one that tried.

    One that was lost has shown nothing: the next one tries.
    """
    tried = await write.read(_TRIED, run_id=run_id)
    if not tried:
        return False
    await holds.lock_gate(write.connection)
    row = await _locked(write, tried[0]["account"])
    if row is None or row["trying"] != run_id:
        return True
    if end in (RunEnd.EXITED, RunEnd.TIMED_OUT):
        await _forget(write, row, "It works.", run_id)
    else:
        await _change(write.connection, row["account"], {"trying": None, "until": write.at})
    return True


def _until(limit: Limit, pauses: int, at: datetime) -> datetime | None:
    return limit.until if limit.needs_human else limit.next_try(pauses, at)


def _tell_limit(write: RequirementWrite, scope: str, limit: Limit, until: datetime | None) -> None:
    fields = {
        "account": limit.account,
        "reason": limit.words,
        "until": timestamp(until) if until else None,
        "needsHuman": limit.needs_human,
    }
    write.tell(scope, EventType.ACCOUNT_LIMITED, fields)


def _ask(write: RequirementWrite, scope: str, limit: Limit) -> None:
    """One question for everybody who works with the account."""
    asks = accounts.asks_human(limit.words, limit.account, limit.until)
    fields = {"account": limit.account, "reason": asks}
    kind = EventType.ACCOUNT_ESCALATION
    write.emit(escalation_event(kind, scope, write.number, write.at, fields))


# --- a human ends the wait ------------------------------------------------------------------------


async def resume_account(
    connection: AsyncConnection, account: str, who: str, *, at_once: bool
) -> datetime:
    """Let the account be tried; returns from when on.

    What only asks a human waits on for a reset that is still to come, unless it is `at_once`.

    Raises: RefusedInput if it is able to work.
    """
    found = (await connection.execute(_FIND, {"account": account})).mappings().first()
    if found is None:
        raise RefusedInput(f"Nothing is known of account {account!r} that would keep it waiting.")
    write = await RequirementWrite.lock(connection, found["number"])
    await holds.lock_gate(connection)
    row = await _locked(write, account)
    if row is None:
        return write.at
    waits = bool(row["until"]) and row["until"] > write.at
    until: datetime = row["until"] if waits and row["needs_human"] and not at_once else write.at
    changes = {"needs_human": False, "until": until, "trying": None, "tried_at": None}
    await _change(connection, account, changes)
    scope = f"account/{account}/{timestamp(write.at)}"
    fields = {"account": account, "who": who, "why": "It is to be tried."}
    write.tell(scope, EventType.ACCOUNT_RESUMED, fields)
    await write.flush()
    return until


async def _locked(write: RequirementWrite, account: str) -> Row | None:
    """The account, locked, and the run that tries it; None if it is able to work.

    Two statements: one that waits for a lock sees what was joined as it was before.
    """
    await write.read(_LOCK, account=account)
    (row, *_) = await write.read(_FIND, account=account) or (None,)
    return row


async def _forget(write: RequirementWrite, row: Row, why: str, scope: str) -> None:
    account = row["account"]
    await write.connection.execute(delete(AccountRow).where(AccountRow.account == account))
    fields = {"account": account, "who": write.number, "why": why}
    write.tell(scope, EventType.ACCOUNT_RESUMED, fields)


async def _change(connection: AsyncConnection, account: str, values: Mapping[str, object]) -> None:
    await connection.execute(
        update(AccountRow).where(AccountRow.account == account).values(**values)
    )
