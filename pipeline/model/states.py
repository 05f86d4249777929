"""Where requirements and stages stand, and how they are dispatched."""

from enum import StrEnum


class Priority(StrEnum):
    """P0 is catastrophic and stops the line; P4 is low."""

    P0 = "P0"
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"
    P4 = "P4"

    @property
    def rank(self) -> int:
        """0 for P0 to 4 for P4: lower is served first."""
        return int(self.value[1])


class RequirementState(StrEnum):
    """Where a requirement stands."""

    ACCEPTED = "ACCEPTED"
    RUNNING = "RUNNING"
    HELD = "HELD"
    BLOCKED = "BLOCKED"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether the requirement has ended."""
        return self in (self.DELIVERED, self.FAILED, self.CANCELLED)


class StageState(StrEnum):
    """Where a stage of a requirement stands."""

    WAITING = "waiting"
    HELD = "held"
    RUNNING = "running"
    COMPLETED = "completed"
    SKIPPED = "skipped"
    FAILED = "failed"
    BLOCKED = "blocked"

    @property
    def is_done(self) -> bool:
        """Whether what needs the stage may go on."""
        return self in (self.COMPLETED, self.SKIPPED)

    @property
    def is_red(self) -> bool:
        """Whether the stage stands in the way until a retry or an answer."""
        return self in (self.FAILED, self.BLOCKED)


class Mode(StrEnum):
    """How the stages of a requirement are dispatched."""

    PARALLEL = "parallel"
    SEQUENTIAL = "sequential"
