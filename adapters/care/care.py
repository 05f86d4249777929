"""The health checks of one place, the cluster or a host: a remediator for each sort of trouble.

Every look is bounded, and every alert is remediated by the remediator that found it.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from adapters.waiting import within
from pipeline import runbook
from pipeline.errors import DependencyUnavailable, PermanentError, PipelineError, TransientError
from pipeline.model import Alert, AlertKind

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""A remediator must have answered by then: a database that is down is reported within 5 s."""
UNSEEN = "unseen"
"""Ends the subject of the alert that a remediator of a host cannot look."""


class Remediator(Protocol):
    """Finds and treats alerts of some kinds whose subjects begin with `prefix`.

    `blind` is the alert that it cannot look: while that lasts, nobody knows of the others.
    """

    kinds: frozenset[AlertKind]
    prefix: str
    blind: Alert

    async def look(self) -> Sequence[Alert]:
        """Everything of those kinds that is wrong now.

        Raises: DependencyUnavailable if it cannot look and another remediator finds out why;
            otherwise PipelineError or OSError.
        """

    async def act(self, alert: Alert) -> str:
        """Treat it once; what was done, in a sentence. Raises: PipelineError."""


class Care:
    """Implements `pipeline.ports.HealthChecks` for a place; an act takes `act_seconds` at most."""

    def __init__(self, *remediators: Remediator, act_seconds: float | None = None) -> None:
        self._remediators = remediators
        self._act_seconds = act_seconds

    async def look(self) -> Sequence[Alert]:
        """Everything that is wrong there now; a remediator that cannot look is an alert too."""
        found = await asyncio.gather(*map(_look, self._remediators))
        return tuple(alert for alerts in found for alert in alerts or ())

    async def is_over(self, alert: Alert) -> bool | None:
        """Whether its remediator does not find it any more; None while that cannot look.

        Raises: PermanentError for an alert that is not remediated here.
        """
        remediator = self._remediator_of(alert)
        found = await _look(remediator)
        return None if found is None else runbook.is_over(alert, found, remediator.blind.key)

    async def act(self, alert: Alert) -> str:
        """Treat it once; what was done, in a sentence.

        Raises: PermanentError for an alert that is not remediated here, otherwise as its remediator
            does, or TransientError if it took too long.
        """
        remediator = self._remediator_of(alert)
        try:
            async with asyncio.timeout(self._act_seconds):
                if not alert.subject.endswith(UNSEEN):
                    return await remediator.act(alert)
                await remediator.look()
                return "It can be looked at again."
        except TimeoutError as error:
            raise TransientError("Not done in time; it continues later.") from error
        except OSError as error:
            raise TransientError(f"The system refused: {error}") from error

    def _remediator_of(self, alert: Alert) -> Remediator:
        for each in self._remediators:
            if alert.kind in each.kinds and alert.subject.startswith(each.prefix):
                return each
        raise PermanentError(f"{alert.kind} {alert.subject} is not remediated here.")


async def _look(remediator: Remediator) -> Sequence[Alert] | None:
    """What it finds; None if it cannot look, and another remediator finds out why."""
    try:
        return await within(LOOK_SECONDS, remediator.look())
    except DependencyUnavailable as error:
        log.debug("Not looked at: %s", error)
        return None
    except (PipelineError, OSError) as error:  # TimeoutError is an OSError
        return (replace(remediator.blind, detail=str(error)),)
