"""`accounts`: the programs' accounts that cannot work now, and the end of their wait."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from adapters.sdlc.views import AccountView
from cli import output
from cli.connections import notify_paused, records, services
from cli.inputs import who
from cli.running import AsJson, load_settings, run
from pipeline.errors import RefusedInput
from settings import Settings

EXAMPLES = {
    "accounts": """
Examples:

  python starter.py accounts

  python starter.py accounts resume claude-code

  python starter.py accounts resume claude-code --now
"""
}


class Action(StrEnum):
    """What may be done about an account."""

    RESUME = "resume"


def accounts(
    action: Annotated[
        Action | None, typer.Argument(help="What to do; without it they are listed.")
    ] = None,
    account: Annotated[str, typer.Argument(help="The account's name.")] = "",
    now: Annotated[
        bool, typer.Option("--now", help="Try at once, before the stated reset, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show which accounts cannot work now, or resume one.

    These are accounts of agents' programs, at a limit or logged out; with who waits for them.
    `resume` lets one be tried: after a log-in or a top-up, or before the wait is over. One run goes
    first, the others follow.
    """
    settings = load_settings()
    if action is not None:
        if not account:
            raise RefusedInput("Name the account that is to be resumed.")
        output.write(run(resumed(settings, account, at_once=now)))
        return
    found = run(_accounts(settings))
    if as_json:
        output.write_json({"accounts": [asdict(each) for each in found]})
    else:
        _show(found)


async def resumed(settings: Settings, account: str, *, at_once: bool) -> str:
    """Let the account be tried; what to tell of it. Raises: RefusedInput if nothing keeps it."""
    async with services(settings) as connected:
        try:
            at = await connected.store.resume_account(account, who(), at_once=at_once)
        finally:  # even if refused: an earlier call may have been interrupted before this
            await notify_paused(connected)
    if at > datetime.now(UTC):
        return f"Account {account} is tried at {output.moment(at)}, when its limit is reset."
    return f"Account {account} is tried now: one run goes first."


async def _accounts(settings: Settings) -> tuple[AccountView, ...]:
    async with records(settings) as reader:
        return await reader.accounts()


def account_line(account: AccountView) -> str:
    """What keeps an account, until when, and who waits for it."""
    if account.needs_human:
        then = f"needs a human: python starter.py accounts resume {account.account}"
    elif account.trying:
        then = f"is tried by {account.trying.partition('/')[0]} first"
    else:
        then = f"is tried again at {_until(account)}"
    numbers = dict.fromkeys(held.number for held in account.held)
    waiting = f"; waiting: {', '.join(numbers)}" if numbers else ""
    return output.plain(f"Account {account.account} {then}{waiting}: {account.words}")


def _until(account: AccountView) -> str:
    return output.moment(account.until) if account.until else ""


def _show(found: Sequence[AccountView]) -> None:
    if not found:
        output.write("Every account can work, for all that is known.")
        return
    rows = output.table("account", "since", "until", "waiting", "what it says", fold=("waiting",))
    for each in found:
        until = "a human resumes it" if each.needs_human else _until(each)
        if each.trying:
            until = f"tried by {each.trying.partition('/')[0]}"
        waiting = ", ".join(f"{held.number} {held.stage}" for held in each.held)
        since = output.since(each.since, datetime.now(UTC))
        rows.add_row(each.account, since, until, waiting, output.plain(each.words))
    output.data().print(rows)
