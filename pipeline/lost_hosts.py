"""When a host is lost, and what the host that continues its requirements must have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from pipeline.numbers import attempt_key

Beats = Mapping[str, str]
"""What each host has told of itself last, by its name: it differs from beat to beat."""

ROUND = "/round-"
"""Before the number of a round, in the id of the workflow that runs its fixes."""


def number_of(workflow_id: str) -> str:
    """The requirement, or the fix, that a workflow with that id works on."""
    return workflow_id.partition(ROUND)[0]


@dataclass
class Silence:
    """How long this host has heard nothing from each of the others.

    Only what it has watched itself counts: after an outage of the database, its own start, or a
    while in which it did not run itself, every host looks silent. Times are those of one clock of
    this host's, in seconds.
    """

    lost_after: timedelta
    _heard: dict[str, tuple[str, float]] = field(default_factory=dict)
    _listened_at: float = 0.0

    def hear(self, beats: Beats, now: float) -> Mapping[str, str]:
        """Take the latest beats; the hosts that are lost, each with its last beat."""
        limit = self.lost_after.total_seconds()
        if now - self._listened_at > limit / 2:  # the others may have been suspended with it
            self.forget()
        self._listened_at, heard = now, self._heard
        self._heard = {
            host: heard[host] if host in heard and heard[host][0] == beat else (beat, now)
            for host, beat in beats.items()
        }
        return {host: beat for host, (beat, at) in self._heard.items() if now - at >= limit}

    def forget(self) -> None:
        """The database could not be asked: nobody could be heard."""
        self._heard.clear()


# --- what was merged on the lost host -------------------------------------------------------------


@dataclass(frozen=True)
class Merged:
    """A commit that the database knows on an integration branch, and whose work it is."""

    commit: str
    whose: str


@dataclass(frozen=True)
class OpenRun:
    """A run that nobody had closed when its host was lost, and the commit that it started from."""

    stage: str
    attempt: int
    base_commit: str

    @property
    def key(self) -> str:
        """What it is called in the repository."""
        return attempt_key(self.stage, self.attempt)


@dataclass(frozen=True)
class Part:
    """A requirement, or one of its fixes, as it moves.

    `merged` is what its integration branch must hold; a part without a project has no `base`.
    """

    number: str
    base: str
    merged: Sequence[Merged] = ()
    open_runs: Sequence[OpenRun] = ()


@dataclass(frozen=True)
class Moving:
    """A requirement with its fixes, first the requirement itself, on a host that is lost.

    `delivering` names the commit that it was about to deliver, and `places` where to.
    """

    number: str
    host: str
    parts: Sequence[Part]
    left: Sequence[str] = ()
    """The hosts that it has left before: what they have of it is old."""
    delivering: str = ""
    place: str = ""


_BACK = (
    "Start the worker of {host} again, then answer: retry. If {host} is gone for good, what it had"
    " is lost with it: cancel {number} and start the work anew."
)


def not_shared(moving: Moving) -> str:
    """Why nobody can continue without a repository that both hosts reach."""
    return _told(moving, "no shared repository is configured (AGOG_SHARED_REPOSITORY)", _BACK)


def never_pushed(moving: Moving, number: str) -> str:
    """Why nobody can continue what was never pushed."""
    why = f"nothing of {number} was ever pushed to the shared repository"
    return _told(moving, why, _BACK)


def not_pushed(moving: Moving, missing: Sequence[Merged]) -> str:
    """Which merges exist on the lost host alone."""
    names = ", ".join(f"{each.commit[:10]} ({each.whose})" for each in missing)
    why = f"these merges were not pushed to the shared repository: {names}"
    return _told(moving, why, _BACK)


def has_submodules(moving: Moving, paths: Sequence[str]) -> str:
    """Why work in submodules does not move: only the project itself is pushed."""
    why = f"it has changed submodules, whose commits are not shared: {', '.join(paths)}"
    return _told(moving, why, _BACK)


def another_project(moving: Moving, host: str) -> str:
    """Why a host whose project has no history in common cannot continue."""
    return _told(moving, f"PROJECT_ROOT of {host} is another project", _BACK)


def no_project(moving: Moving, host: str) -> str:
    """Why a host without a project cannot continue."""
    return _told(moving, f"PROJECT_ROOT is not set on {host}", _BACK)


def was_here(moving: Moving, host: str) -> str:
    """Why a requirement does not return to a host that it has left."""
    return _told(moving, f"{host}, which it had left before, is the only one to take it", _BACK)


def was_delivering(moving: Moving) -> str:
    """Why a human must look first: it may be delivered, and would be once more."""
    why = (
        f"it was delivering {moving.delivering[:10]} to {moving.place} when {moving.host} was lost"
    )
    look = (
        "Look there first. If the commit has arrived, or {host} comes back, nothing may move:"
        " start the worker of {host} and retry, or abort. Otherwise answer retry: another host"
        " continues, and delivers to its own PROJECT_ROOT."
    )
    return _told(moving, why, look)


def _told(moving: Moving, why: str, remedy: str) -> str:
    host, number = moving.host, moving.number
    said = remedy.format(host=host, number=number)
    return f"Host {host} is lost, and {number} cannot move to another one: {why}. {said}"


def lost_run(host: str) -> str:
    """The reason of a run that was lost with its host."""
    return (
        f"Its host {host} was lost while it ran. It runs again on another host, and counts as no"
        f" try. What it has cost is known once {host} is back."
    )
