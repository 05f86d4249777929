"""The work that all contenders do: the standard pipeline without specialists, as one would type it.

A test holds it against `pipelines/standard.toml`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

MINUTE_SECONDS = 0.01
"""How long a simulated minute takes where the work takes time."""


@dataclass(frozen=True)
class Step:
    """One activity of a hand-written pipeline: a stage, or a build of no length."""

    name: str
    minutes: float = 0.0


STEPS: tuple[tuple[Step, ...], ...] = (
    (Step("Research", 45),),
    (Step("Critique", 30),),
    (Step("Backend Implementation", 60), Step("Frontend Implementation", 60)),
    (Step("Build backend"), Step("Build frontend")),
    (Step("Backend QA", 45), Step("Frontend QA", 45)),
    (Step("Statistics", 90),),
    (Step("DevOps Deployment", 15),),
    (Step("Documentation Update", 30),),
)
"""Groups one after another; the steps of a group at once."""

IDEAL_SECONDS = MINUTE_SECONDS * sum(max(step.minutes for step in group) for group in STEPS)
"""The makespan if nothing but the stages took time."""


def scaled(group: tuple[Step, ...], minute_seconds: float) -> Iterator[tuple[str, float]]:
    """Name and length in seconds of each step of a group."""
    return ((step.name, step.minutes * minute_seconds) for step in group)
