"""The completion notice: the agent's last fenced JSON object that names it and its requirement.

Everything else an agent prints is noise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

NOTICE_LIMIT = 256 * 1024
"""Bytes; a larger notice is refused. NATS takes 1 MB per message."""


class NoticeStatus(StrEnum):
    """What the agent says of its work."""

    COMPLETE = "COMPLETE"
    BLOCKED = "BLOCKED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Notice:
    """An accepted notice. `flags` are the `needs_…` that were strictly true.

    `raw` is the whole object, for the deliverable and for those downstream.
    """

    agent: str
    number: str
    status: NoticeStatus
    summary: str
    critique_verdict: str = ""
    required_fixes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    test_result: str = ""
    overall: str = ""
    flags: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    owner: str = ""
    raw: Mapping[str, object] = field(default_factory=dict)
