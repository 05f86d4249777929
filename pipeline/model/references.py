"""What messages refer to: an execution, and a commit of its integration branch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RequirementRef:
    """Which execution speaks: the number and the first run id of its workflow."""

    number: str
    workflow_run: str

    @property
    def key(self) -> str:
        """Prefix of every run id and event id of this execution."""
        return f"{self.number}/{self.workflow_run}"


@dataclass(frozen=True)
class Head:
    """The tip of a requirement's integration branch; `position` grows with every merge."""

    commit: str
    position: int
