"""What the Web UI shows of a requirement, and what it showed before something held it."""

from dataclasses import dataclass

from temporalio.workflow import unsafe

with unsafe.imports_passed_through():
    from pipeline.board import Board
    from pipeline.model import Hold, RequirementState
    from workflows.view import View


@dataclass(frozen=True)
class Shown:
    """Where a requirement stands, as it is shown."""

    state: RequirementState
    waiting_for: str = ""
    note: str = ""

    @classmethod
    def held(cls, hold: Hold) -> "Shown":
        """That it is held, by whom and since when."""
        since = f"{hold.since:%Y-%m-%d %H:%M} UTC"
        note = f"Held at **{hold.boundary}** since {since}: {hold.reason}"
        return cls(RequirementState.HELD, ", ".join(hold.by), note)


class Display:
    """Shows where a requirement stands, by its view."""

    def __init__(self, view: View, board: Board) -> None:
        self._view = view
        self._board = board
        self.shown = Shown(RequirementState.ACCEPTED)
        self._before_hold = self.shown
        self.pending = ("", "")
        """Who else is waited for while it runs, and the question that stays open."""

    def show(self, state: RequirementState, waiting_for: str = "", note: str = "") -> None:
        """Bring the Web UI up to date; what is pending is shown as long as it runs."""
        pending = self.pending if state is RequirementState.RUNNING else (waiting_for, note)
        self._before_hold = Shown(state, *pending)
        self._show(self._before_hold)

    def hold(self, hold: Hold) -> None:
        """Show who holds it, until `go_on` or until something else is shown."""
        self._show(Shown.held(hold))

    def go_on(self) -> None:
        """Show again what was shown before it was held."""
        self._show(self._before_hold)

    def refresh(self) -> None:
        """Show what stages do by now; the rest stays as it is shown."""
        self._show(self.shown)

    def _show(self, shown: Shown) -> None:
        self.shown = shown
        self._view.show(shown.state, self._board, shown.waiting_for, shown.note)
