"""Grants more time to running agents, within the bound, through their requirement's workflow."""

from pipeline.errors import DependencyUnavailable, RefusedInput, UnknownRequirement
from pipeline.extensions import (
    ExtensionAnswer,
    ExtensionMessage,
    check_message,
    extension_request,
    repeat_id,
    running_stage,
)
from pipeline.ports import Extender, RuleFacts
from pipeline.rule_facts import StageFacts

_TRIES = 3
"""A deadline that others move at the same time is read again so often."""


class ExtensionDesk:
    """Turns a wish for a new total into minutes more than what is recorded."""

    def __init__(self, facts: RuleFacts, extender: Extender) -> None:
        self._facts = facts
        self._extender = extender

    async def answer(self, message: ExtensionMessage) -> ExtensionAnswer:
        """Grant or refuse it; a repeat of a granted wish has no second effect."""
        try:
            check_message(message)
            run_id = await self._grant(message)
        except (RefusedInput, UnknownRequirement, DependencyUnavailable) as refusal:
            return ExtensionAnswer(message, False, str(refusal))
        reason = f"{run_id} may run {message.minutes:g} minutes, counted from its start."
        return ExtensionAnswer(message, True, reason, run_id)

    async def _grant(self, message: ExtensionMessage, tries: int = _TRIES) -> str:
        facts = await self._facts.of(message.number)
        own = running_stage(message, facts)
        request = extension_request(message, facts, own)
        if request is None:
            return own.run_id
        try:
            wish = repeat_id(message, own)
            return await self._extender.extend(message.number, request, wish)
        except RefusedInput:
            if tries == 1 or not await self._was_moved(message, own):
                raise
        return await self._grant(message, tries - 1)

    async def _was_moved(self, message: ExtensionMessage, own: StageFacts) -> bool:
        facts = await self._facts.of(message.number)
        return running_stage(message, facts).deadline != own.deadline
