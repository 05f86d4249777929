"""A check of the doctor: a probe, bounded and timed, whose error becomes advice."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from time import monotonic
from typing import Any

from adapters.waiting import within
from pipeline.errors import PipelineError, RefusedInput

CHECK_SECONDS = 6.0
"""Every dependency is refused by itself within five."""


class Kind(StrEnum):
    """What is at fault if a check is not ok."""

    DEPENDENCY = "dependency"
    CONFIGURATION = "configuration"


@dataclass(frozen=True)
class Finding:
    """What a probe has found; with advice, the check is not ok.

    `--json` prints `facts` beside the texts.
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
class Probe:
    """What to check, and how."""

    name: str
    kind: Kind
    address: str
    run: Callable[[], Coroutine[Any, Any, Finding]]

    async def check(self) -> Check:
        """Run the probe; a refusal, an error or no answer in time becomes the advice."""
        check = Check(self.name, self.kind, self.address, ok=False)
        begin = monotonic()
        try:
            found = await within(CHECK_SECONDS, self.run())
        except RefusedInput as refusal:
            return replace(check, kind=Kind.CONFIGURATION, advice=str(refusal))
        except PipelineError as error:
            return replace(check, advice=str(error))
        except TimeoutError:
            return replace(check, advice=f"No answer within {CHECK_SECONDS:g} s.")
        return replace(
            check,
            ok=not found.advice,
            version=found.version,
            latency_ms=round(1000 * (monotonic() - begin), 1),
            detail=found.detail,
            advice=found.advice,
            facts=found.facts,
        )
