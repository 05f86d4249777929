"""One symptom is treated by its remedy: bounded actions, each verified, then escalated."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from pipeline.errors import NoWorker
    from pipeline.model import IncidentEnd, Symptom
    from pipeline.remedies import Remedy
    from workflows.care import act, is_over

Key = tuple[str, str, str]
"""Place, kind and subject of a symptom."""

_CONFIRMED = timedelta(seconds=2)
"""A single look may have been unlucky; nothing is restarted because of one."""


@dataclass
class Case:
    """A symptom under treatment, and what has been done about it so far."""

    place: str
    symptom: Symptom
    remedy: Remedy
    began: datetime
    actions: list[str] = field(default_factory=list)
    again: timedelta = timedelta()
    """When it is treated anew if it is left: a look that finds it shows that it can be reached."""

    @property
    def key(self) -> Key:
        """What tells it from other cases."""
        return (self.place, *self.symptom.key)

    async def treat(self) -> IncidentEnd:
        """Act as often as the remedy allows until a look does not find the symptom any more.

        A place that cannot be reached is left: nobody there has tried in vain.
        """
        try:
            return await self._treat()
        except NoWorker as error:
            self.actions.append(str(error))
            return IncidentEnd.LEFT

    async def _treat(self) -> IncidentEnd:
        if await is_over(self.place, self.symptom, _CONFIRMED):
            return IncidentEnd.PASSED
        for _ in range(self.remedy.attempts):
            self.actions.append(await act(self.place, self.symptom))
            if await is_over(self.place, self.symptom, self.remedy.settles):
                return IncidentEnd.REPAIRED
        self.again = self.remedy.again
        return IncidentEnd.ESCALATED if self.remedy.escalates else IncidentEnd.LEFT
