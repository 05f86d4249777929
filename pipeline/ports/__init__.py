"""What activities ask of the outside world. Adapters implement these; only the roots see both.

Every method is idempotent by the run id or execution key in its argument: activities repeat it.
"""

from pipeline.ports.host import (
    Extender,
    HealthChecks,
    HostPorts,
    Notifier,
    Readiness,
    RuleFacts,
    Sasha,
)
from pipeline.ports.records import EventPublisher, SdlcStore
from pipeline.ports.work import (
    AgentRuns,
    Builds,
    Prompts,
    PullRequests,
    StartListener,
    Workspaces,
)

__all__ = [
    "AgentRuns",
    "Builds",
    "EventPublisher",
    "Extender",
    "HealthChecks",
    "HostPorts",
    "Notifier",
    "Prompts",
    "PullRequests",
    "Readiness",
    "RuleFacts",
    "Sasha",
    "SdlcStore",
    "StartListener",
    "Workspaces",
]
