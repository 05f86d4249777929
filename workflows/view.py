"""What the Web UI shows: current details of every workflow, search attributes of a requirement."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributeUpdate

with workflow.unsafe.imports_passed_through():
    from pipeline.board import Board
    from pipeline.costs import amount, told
    from pipeline.model import NO_COST, Alert, Ask, Fix, Hold, RequirementState
    from pipeline.steering import addressed

STATUS = SearchAttributeKey.for_keyword("DeliveryStatus")
WAITING_FOR = SearchAttributeKey.for_keyword("WaitingFor")


class View(Protocol):
    """Shows the state of something."""

    def show(self, state: RequirementState, board: Board, waiting_for: str, note: str) -> None:
        """Bring what is shown up to date; `note` says more, as Markdown."""


class RequirementView:
    """Shows the state of a requirement; attributes only where the server knows them.

    An update of attributes is the most expensive thing that is shown: an event of the history, and
    a write to the server's index. So they hold only what lists are filtered by and what lasts; the
    stages stand in the details, which cost nothing. Changes of one workflow task are one update.
    """

    def __init__(self, number: str, known: tuple[str, ...]) -> None:
        """Show the requirement of that number; `known` are the server's attributes."""
        self._number = number
        self._known = known
        self._shown: dict[str, object] = {}
        self._wanted: dict[str, SearchAttributeUpdate[Any]] = {}

    def show(self, state: RequirementState, board: Board, waiting_for: str, note: str) -> None:
        """Bring details and attributes up to date."""
        details = _details(self._number, state, board, waiting_for, note)
        workflow.set_current_details(details)
        self._want("DeliveryStatus", str(state), STATUS.value_set(str(state)))
        self._want("WaitingFor", waiting_for, WAITING_FOR.value_set(waiting_for))

    def _want(self, name: str, value: object, update: SearchAttributeUpdate[Any]) -> None:
        if name not in self._known or self._shown.get(name, "") == value:
            return
        if not self._wanted:
            asyncio.get_running_loop().call_soon(self._flush)
        self._shown[name] = value
        self._wanted[name] = update

    def _flush(self) -> None:
        updates = list(self._wanted.values())
        self._wanted.clear()
        workflow.upsert_search_attributes(updates)


@dataclass(frozen=True)
class Shown:
    """The state of a requirement as it is shown."""

    state: RequirementState
    waiting_for: str = ""
    note: str = ""

    @classmethod
    def held(cls, hold: Hold) -> "Shown":
        """HELD, by whom and since when."""
        since = f"{hold.since:%Y-%m-%d %H:%M} UTC"
        note = f"Held at **{hold.boundary}** since {since}: {hold.reason}"
        return cls(RequirementState.HELD, ", ".join(hold.by), note)


class Display:
    """Shows the state of a requirement in its view."""

    def __init__(self, view: View, board: Board) -> None:
        self._view = view
        self._board = board
        self.shown = Shown(RequirementState.ACCEPTED)
        self._before_hold = self.shown
        self._limited: dict[str, str] = {}
        """What accounts and budgets hold, by boundary: it is shown while other stages run."""
        self.pending = ("", "")
        """Who else it waits for while it runs, and the open question."""

    def show(self, state: RequirementState, waiting_for: str = "", note: str = "") -> None:
        """Update the Web UI; while it runs, show what is pending."""
        if state.is_final:
            self._limited.clear()
        pending = self.pending if state is RequirementState.RUNNING else (waiting_for, note)
        self._before_hold = Shown(state, *pending)
        self._show(self._before_hold)

    def hold(self, hold: Hold) -> None:
        """Show who holds it, until `go_on` or the next `show`."""
        shown = Shown.held(hold)
        if hold.is_apart:
            self._limited[hold.boundary] = shown.note
        self._show(shown)

    def proceed(self, boundary: str = "") -> None:
        """Show the state before the hold at that boundary again."""
        self._limited.pop(boundary, None)
        self._show(self._before_hold)

    def refresh(self) -> None:
        """Update the stages, nothing else."""
        self._show(self.shown)

    def _show(self, shown: Shown) -> None:
        self.shown = shown
        notes = filter(None, dict.fromkeys((shown.note, *self._limited.values())))
        self._view.show(shown.state, self._board, shown.waiting_for, "\n\n".join(notes))


class FixesView:
    """Shows the fixes of a round; the requirement shows itself."""

    def __init__(self, number: str, round_: int) -> None:
        self._title = f"**{number}**, round {round_}: failures go back to their owners"
        self._states: dict[str, tuple[Fix, str]] = {}
        self._hold = ""

    def show(self, state: RequirementState, board: Board, waiting_for: str, note: str) -> None:
        """Show a hold, and nothing else of the requirement."""
        hold = note if state is RequirementState.HELD else ""
        if hold != self._hold:
            self._hold = hold
            self._render()

    def tell(self, fix: Fix, state: str) -> None:
        """Show the state of a fix."""
        self._states[fix.number] = (fix, state)
        self._render()

    def _render(self) -> None:
        lines = [self._title, *(["", self._hold] if self._hold else []), ""]
        lines += ["| fix | owner | gate | depth | state |", f"|{' --- |' * 5}"]
        for each, said in self._states.values():
            gate = each.failure.gate
            lines.append(f"| {each.number} | {each.owner} | {gate} | {each.depth} | {said} |")
        workflow.set_current_details("\n".join(lines))


class SashaView:
    """Shows what Sasha remediates."""

    def __init__(self) -> None:
        self._cases: dict[tuple[str, str, str], tuple[Alert, str]] = {}
        self._render()

    def tell(self, place: str, alert: Alert, state: str) -> None:
        """Show where a case stands."""
        self._cases[(place, *alert.key)] = (alert, state)
        self._render()

    def forget(self, place: str, alert: Alert) -> None:
        """It is over."""
        self._cases.pop((place, *alert.key), None)
        self._render()

    def _render(self) -> None:
        lines = ["| place | alert | detail | state |", f"|{' --- |' * 4}"]
        for (place, kind, subject), (alert, state) in self._cases.items():
            what = f"{kind} {subject}".strip()
            lines.append(f"| {place or 'cluster'} | {what} | {alert.detail} | {state} |")
        details = "\n".join(lines) if self._cases else "Nothing is remediated."
        workflow.set_current_details(details)


def question(number: str, asks: Sequence[Ask], answers: Sequence[str]) -> str:
    """What a human is asked, and the commands that answer, as Markdown; empty for nothing."""
    if not asks:
        return ""
    lines = [f"- **{ask.gate}**: {ask.reason}" for ask in asks]
    commands = [f"- `starter.py {addressed(answer, number)}`" for answer in answers]
    return "\n".join(["A human is asked:", *lines, "", "Possible answers:", *commands])


def _details(
    number: str, state: RequirementState, board: Board, waiting_for: str, note: str
) -> str:
    lines = [f"**{number}** is **{state}**", ""]
    if waiting_for:
        lines += [f"Waiting for: {waiting_for}", ""]
    if note:
        lines += [note, ""]
    whole = sum((entry.cost for entry in board.entries.values()), NO_COST)
    columns = ("stage", "agent", "state", "attempt", *(("cost",) if whole.is_known else ()))
    lines += [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for stage in board.pipeline.stages:
        entry = board.entries[stage.name]
        does = "queued for a slot" if stage.name in board.queued else entry.state
        cost = f" {amount(entry.cost)} |" if whole.is_known else ""
        lines.append(f"| {stage.name} | {stage.agent} | {does} | {entry.attempt or ''} |{cost}")
    if whole.is_known:
        lines.append(f"\nCost of its stages: {told(whole)}")
    for failure in board.open_failures():
        owners = ", ".join(failure.owners) or "nobody"
        first = failure.error.splitlines()[0] if failure.error else failure.kind
        lines.append(f"\n- **{failure.gate}** ({owners}): {first}")
    return "\n".join(lines)
