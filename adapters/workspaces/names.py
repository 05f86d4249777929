"""Names of the refs that the orchestrator keeps in the project: one table."""

from dataclasses import dataclass

from pipeline.model import StageRequest
from pipeline.numbers import integration_branch, slug


def attempt_key(request: StageRequest) -> str:
    """Names one attempt of one stage within its requirement."""
    return f"{slug(request.stage.name)}-{request.attempt}"


@dataclass(frozen=True)
class Names:
    """Refs of one requirement; `key` is an `attempt_key`."""

    number: str

    @property
    def integration(self) -> str:
        """The branch that collects the merges; that it exists says that opening is complete."""
        return f"refs/heads/{integration_branch(self.number)}"

    @property
    def base(self) -> str:
        """Where the integration branch started: positions are counted from here."""
        return f"refs/agog/{self.number}/base"

    @property
    def target(self) -> str:
        """A symbolic ref to the branch that was checked out at the start."""
        return f"refs/agog/{self.number}/target"

    def stage(self, key: str) -> str:
        """The branch of an attempt."""
        return f"refs/heads/agog/{self.number}/{key}"

    def merged(self, key: str) -> str:
        """The integration tip right after the attempt was merged: its merge is not repeated."""
        return f"refs/agog/{self.number}/merged/{key}"

    def kept(self, key: str) -> str:
        """What an unsuccessful attempt left."""
        return f"refs/agog/{self.number}/kept/{key}"
