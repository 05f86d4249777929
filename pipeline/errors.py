"""Everything that can go wrong, as types.

PipelineError
├── PermanentError            trying again gives the same answer
│   ├── RefusedInput          a value a user gave is not acceptable
│   │   ├── PlanRefused       a pipeline file
│   │   ├── AgentsFileRefused the agents file
│   │   ├── ProjectRefused    the project repository
│   │   │   └── OtherProject  it is not that of the requirement
│   │   └── MessageRefused    a message to Sasha
│   ├── NoticeRefused         an agent's completion notice
│   ├── UnknownRequirement    no such requirement or stage
│   ├── AlreadyStarted        the number is taken
│   │   └── NumberElsewhere   by another installation in the same Temporal namespace
│   ├── IllegalTransition     a phase change that the life cycle does not know
│   ├── StaleAttempt          a closing write of an attempt that is no longer current
│   ├── RequirementMoved      another host continues the requirement
│   ├── HostLost              its host is lost, and no other one can continue it
│   ├── NotRepairable         a fault of a dependency that only a human can repair
│   └── RetriesExhausted      a transient error that has outlasted its bound
└── TransientError            trying again may help
    ├── ProjectMissing        this worker was started without the project
    ├── PolicyHookFailed         Sasha's own program has not advised
    ├── HostBack              a host that seemed lost is not
    ├── NoWorker              nobody at that place took the work
    ├── GitFailed             a git command failed that should have worked
    └── DependencyUnavailable Temporal, NATS or the SDLC database cannot be reached
        ├── WrongInstallation what answers there belongs to another installation
        ├── TransactionAborted the database rolled a transaction back for another's sake
        ├── ServerNotStarted  one of the embedded stack's could not be started
        └── NoRoom            a host's disk is full
"""

import re
from collections.abc import Mapping

_SURROGATE = re.compile("[\ud800-\udfff]")


class PipelineError(Exception):
    """Something went wrong; the docstring of the class is the default message."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(printable(message or (self.__doc__ or "").strip()))


def printable(text: str) -> str:
    """The text as it can be stored and sent: what is no UTF-8 in it (PEP 383) is replaced."""
    return _SURROGATE.sub("\ufffd", text)


class PermanentError(PipelineError):
    """Trying again gives the same answer."""


class TransientError(PipelineError):
    """Trying again may help."""


class RefusedInput(PermanentError):
    """A value that a user gave is not acceptable."""


class PlanRefused(RefusedInput):
    """The pipeline file is not acceptable."""

    def __init__(self, source: str, key: str, reason: str) -> None:
        super().__init__(f"{source}: {key}: {reason}")


class AgentsFileRefused(RefusedInput):
    """The agents file is not acceptable."""

    def __init__(self, source: str, key: str, reason: str) -> None:
        super().__init__(f"{source}: {key}: {reason}")


class ProjectRefused(RefusedInput):
    """The project repository cannot be worked on as it is."""


class OtherProject(ProjectRefused):
    """The project is not the one that the requirement was started for."""


class MessageRefused(RefusedInput):
    """A message is not as it must be."""

    def __init__(self, reason: str, document: Mapping[str, object]) -> None:
        """Say what is wrong; `document` is what could be read of the message."""
        super().__init__(reason)
        self.document = document


class NoticeRefused(PermanentError):
    """The agent's completion notice is not acceptable."""


class UnknownRequirement(PermanentError):
    """There is no requirement of that number."""


class AlreadyStarted(PermanentError):
    """The requirement number is taken."""


class NumberElsewhere(AlreadyStarted):
    """The requirement number is another installation's in this Temporal namespace."""

    def __init__(self, *numbers: str) -> None:
        one = len(numbers) == 1
        super().__init__(
            f"{', '.join(numbers)} belong{'s' if one else ''} to another installation in this"
            " Temporal namespace, where a requirement's workflow has its number as its id."
            f" Take {'another number' if one else 'other numbers'}, or a namespace of your own"
            " (TEMPORAL_NAMESPACE)."
        )


class IllegalTransition(PermanentError):
    """The life cycle does not know this phase change."""


class StaleAttempt(PermanentError):
    """The attempt that wants to close is no longer the current one."""


class RequirementMoved(PermanentError):
    """Another host continues the requirement."""

    def __init__(self, number: str, lost: str, host: str) -> None:
        super().__init__(f"{number} has moved from {lost} to {host}.")
        self.lost = lost
        self.host = host


class HostLost(PermanentError):
    """The host of a requirement is lost, and no other one can continue it."""


class NotRepairable(PermanentError):
    """What is wrong with a dependency cannot be repaired by this program."""


class RetriesExhausted(PermanentError):
    """It was tried for as long as a transient error may last."""

    def __init__(self, error: str, tries: int, minutes: float) -> None:
        super().__init__(f"{error} (tried {tries} times in {minutes:.1f} minutes)")


class ProjectMissing(TransientError):
    """This worker was started without the project that an open requirement needs.

    Transient: the stage's agent may be at work, and its run waits for a worker that has one.
    """


class PolicyHookFailed(TransientError):
    """The program that advises Sasha is busy, was too slow, or did not make sense."""


class HostBack(TransientError):
    """A host that seemed lost is not: its own worker takes what waits for it."""


class NoWorker(TransientError):
    """No worker there took it in time; it is remediated when one is back."""


class GitFailed(TransientError):
    """A git command failed that should have worked: a full disk, a lock that was not freed."""


class DependencyUnavailable(TransientError):
    """A dependency cannot be reached."""

    def __init__(self, dependency: str, address: str, remedy: str) -> None:
        super().__init__(f"{dependency} cannot be reached at {address}. {remedy}")
        self.dependency = dependency


class WrongInstallation(DependencyUnavailable):
    """What answers there belongs to another installation."""

    def __init__(self, dependency: str, reason: str) -> None:
        """Name the dependency; say whose it is, where, and what to do."""
        PipelineError.__init__(self, reason)
        self.dependency = dependency


class TransactionAborted(DependencyUnavailable):
    """A database is there but rolled the transaction back, because of others beside it."""

    def __init__(self, dependency: str, reason: str) -> None:
        PipelineError.__init__(self, f"{dependency}: {reason}. Nothing was written; try again.")
        self.dependency = dependency


class ServerNotStarted(DependencyUnavailable):
    """A server of the embedded stack could not be started."""

    def __init__(self, server: str, reason: str) -> None:
        PipelineError.__init__(self, f"{server} could not be started: {reason}")
        self.dependency = server


class NoRoom(DependencyUnavailable):
    """The disk of a host has no room: what is written there waits, and nothing new starts."""

    def __init__(self, disk: str, problem: str) -> None:
        """Name the disk as a dependency (`disk_of`), and say what is wrong with it."""
        PipelineError.__init__(
            self, f"The {disk} has no room: {problem} Make room there: python starter.py gc"
        )
        self.dependency = disk
        self.problem = problem
