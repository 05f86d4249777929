"""Names of the refs that the orchestrator keeps in the project: one table."""

from dataclasses import dataclass

from pipeline.model import StageRequest
from pipeline.numbers import integration_branch, stage_branch


def attempt_key(request: StageRequest) -> str:
    """Names one attempt of one stage within its requirement."""
    branch = stage_branch(request.ref.number, request.stage.name, request.attempt)
    return branch.rpartition("/")[2]


@dataclass(frozen=True)
class Names:
    """Refs of one requirement; `key` is an `attempt_key`."""

    number: str

    @property
    def all(self) -> tuple[str, str]:
        """The two folders that hold every ref of the requirement."""
        return f"{self.integration.rpartition('/')[0]}/", f"refs/agog/{self.number}/"

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
        """The name of the branch that was checked out at the start, in a blob.

        No symbolic ref: whoever deletes one by `git update-ref` deletes the user's branch.
        """
        return f"refs/agog/{self.number}/target"

    def stage(self, key: str) -> str:
        """The branch of an attempt."""
        return f"{self.all[0]}{key}"

    def merged(self, key: str) -> str:
        """The integration tip right after the attempt, or the fix of that number, was merged.

        Its merge is not repeated.
        """
        return f"refs/agog/{self.number}/merged/{key}"

    def kept(self, key: str) -> str:
        """What an unsuccessful attempt left."""
        return f"refs/agog/{self.number}/kept/{key}"
