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

_TRIES = 3
"""A deadline that others move at the same time is read again so often."""


class ExtensionDesk:
    """Turns a wish for a new total into minutes more than what is recorded."""

    def __init__(self, facts: RuleFacts, extender: Extender) -> None:
        """Take where deadlines are read, and who moves them."""
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

    async def _grant(self, message: ExtensionMessage) -> str:
        for left in reversed(range(_TRIES)):
            facts = await self._facts.of(message.number)
            own = running_stage(message, facts)
            request = extension_request(message, facts, own)
            if request is None:
                return own.run_id
            try:
                wish = repeat_id(message, own)
                return await self._extender.extend(message.number, request, wish)
            except RefusedInput:
                now = running_stage(message, await self._facts.of(message.number))
                if now.deadline == own.deadline or not left:
                    raise
        raise AssertionError("the last try returns or raises")
