"""Requirement numbers, and the branch names that follow from them."""

import re

from pipeline.errors import RefusedInput

NUMBER_LENGTH = 80
FIX_LENGTH = 120
"""Longest number of a fix (design, section 6)."""
_NUMBER = re.compile(r"REQ-[A-Za-z0-9]+(-[A-Za-z0-9]+)*")
_FIX = re.compile(r"-FIX-\d+$", re.IGNORECASE)
_FIXES = re.compile(r"(-FIX-\d+)+$", re.IGNORECASE)


def check_number(number: str) -> str:
    """The number, unchanged. Raises: RefusedInput with the reason."""
    if len(number) > NUMBER_LENGTH:
        raise RefusedInput(
            f"Requirement number of {len(number)} characters: at most {NUMBER_LENGTH}."
        )
    if not _NUMBER.fullmatch(number):
        raise RefusedInput(
            f"Requirement number {number!r} is not of the form REQ-…: letters, digits, hyphens."
        )
    if _FIX.search(number):
        raise RefusedInput(
            f"Requirement number {number!r} ends like a fix, which only the orchestrator opens."
        )
    return number


def names_another(said: object, number: str) -> bool:
    """Whether that is the number of another requirement, and no misspelling of this one.

    A fix and what it repairs are easily confused, so neither is another one for the other.
    """
    if not isinstance(said, str) or not _NUMBER.fullmatch(said):
        return False
    return _root(said) != _root(number)


def fix_number(parent: str, nth: int) -> str:
    """The number of the nth fix of a requirement, or of a fix."""
    return f"{parent}-FIX-{nth}"


def integration_branch(number: str) -> str:
    """The branch that collects a requirement's merges."""
    return f"agog/{number}/main"


def stage_branch(number: str, stage: str, attempt: int) -> str:
    """The branch of one attempt of one stage."""
    return f"agog/{number}/{attempt_key(stage, attempt)}"


def attempt_key(stage: str, attempt: int) -> str:
    """Names one attempt of one stage within its requirement."""
    return f"{slug(stage)}-{attempt}"


def slug(name: str) -> str:
    """Lower case, everything but letters and digits as single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _root(number: str) -> str:
    return _FIXES.sub("", number).casefold()
