"""What the Web UI shows: current details of every workflow, search attributes of a requirement."""

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributeUpdate

with workflow.unsafe.imports_passed_through():
    from pipeline.board import Board
    from pipeline.model import Alert, Fix, Hold, RequirementOrder, RequirementState
    from pipeline.web_details import Moment, details, escaped, linked, table

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

    def __init__(self, order: RequirementOrder) -> None:
        """Show that requirement, with the attributes that the server knows."""
        self._order = order
        self._known = order.search_attributes
        self._shown: dict[str, object] = {}
        self._wanted: dict[str, SearchAttributeUpdate[Any]] = {}

    def show(self, state: RequirementState, board: Board, waiting_for: str, note: str) -> None:
        """Bring details and attributes up to date."""
        now, namespace = workflow.now(), workflow.info().namespace
        board.show(now)
        number, expected = self._order.number, self._order.expected
        shown = Moment(number, state, waiting_for, note, now, namespace, expected)
        workflow.set_current_details(details(shown, board))
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
        reason = linked(escaped(hold.reason), workflow.info().namespace)
        note = f"Held at **{hold.boundary}** since {since}: {reason}"
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
        namespace = workflow.info().namespace
        rows = [
            (linked(each.number, namespace), each.owner, each.failure.gate, str(each.depth), said)
            for each, said in self._states.values()
        ]
        lines += table(("fix", "owner", "gate", "depth", "state"), rows)
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
        rows = [
            (place or "cluster", f"{kind} {subject}".strip(), escaped(alert.detail), state)
            for (place, kind, subject), (alert, state) in self._cases.items()
        ]
        lines = table(("place", "alert", "detail", "state"), rows)
        workflow.set_current_details("\n".join(lines) if rows else "Nothing is remediated.")
