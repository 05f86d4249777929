"""The plan: groups and stages, checked."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Group:
    """Stages of one kind: reporting, and the barrier that stages without needs of their own use."""

    name: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One agent's part of a requirement.

    `needs` are stage names with the barrier already spelt out; `minutes` are for the plan,
    `deadline` and `grace` bound the run; `flag` makes the stage conditional;
    `builds` are verified after this stage's merge.
    """

    name: str
    agent: str
    group: str
    needs: tuple[str, ...]
    minutes: float
    deadline: timedelta
    grace: timedelta
    retries: int = 0
    flag: str | None = None
    builds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pipeline:
    """A checked plan: stages in the order of the file, which is a legal sequential order."""

    name: str
    groups: tuple[Group, ...]
    stages: tuple[Stage, ...]

    def stage(self, name: str) -> Stage:
        """The stage of that name. Raises: KeyError if there is none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)

    @property
    def builds(self) -> tuple[str, ...]:
        """The builds that some stage names, each once, in the order of the file."""
        return tuple(dict.fromkeys(build for stage in self.stages for build in stage.builds))
