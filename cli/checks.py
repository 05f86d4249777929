"""What `doctor` looks at, and how a look is taken: bounded, timed, its error kept as advice."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from time import monotonic

from adapters.waiting import within
from pipeline.errors import PipelineError, RefusedInput

LOOK_SECONDS = 6.0
"""Every dependency refuses by itself within five."""


class Kind(StrEnum):
    """What is at fault where a check is not ok."""

    DEPENDENCY = "dependency"
    CONFIGURATION = "configuration"


@dataclass(frozen=True)
class Finding:
    """What a look has found: details where it is well, what to do where it is not.

    `facts` are what `--json` says beside the sentences.
    """

    version: str = ""
    detail: str = ""
    advice: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One line of the doctor's report."""

    name: str
    kind: Kind
    address: str
    ok: bool
    version: str = ""
    latency_ms: float | None = None
    detail: str = ""
    advice: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """A look to be taken; a finding with advice is not ok."""

    name: str
    kind: Kind
    address: str
    take: Callable[[], Awaitable[Finding]]

    async def check(self) -> Check:
        """Take the look; what is refused or cannot be reached is an answer too."""
        check = Check(self.name, self.kind, self.address, ok=False)
        begin = monotonic()
        try:
            found = await within(LOOK_SECONDS, self._taken())
        except RefusedInput as refusal:
            return replace(check, kind=Kind.CONFIGURATION, advice=str(refusal))
        except PipelineError as error:
            return replace(check, advice=str(error))
        except TimeoutError:
            return replace(check, advice=f"No answer within {LOOK_SECONDS:g} s.")
        return replace(
            check,
            ok=not found.advice,
            version=found.version,
            latency_ms=round(1000 * (monotonic() - begin), 1),
            detail=found.detail,
            advice=found.advice,
            facts=found.facts,
        )

    async def _taken(self) -> Finding:
        return await self.take()
