"""What is said of a host's start permits, by `slots` and by `doctor`."""

from collections.abc import Mapping
from dataclasses import asdict

from adapters.runs.census import Census
from adapters.runs.slot_limit import SlotLimit


def permits_document(limit: SlotLimit, census: Census) -> Mapping[str, object]:
    """The limit of now with where it comes from, and who lives, stands still and waits.

    Raises: RefusedInput if a file of the state directory says no limit.
    """
    lowered = limit.lowered()
    return {
        "slots": limit.current(),
        "configured": limit.configured,
        "set": limit.chosen(),
        "lowered": asdict(lowered) if lowered else None,
        **asdict(census),
    }
