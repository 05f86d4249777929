"""What activities ask of the outside world. Adapters implement these; only the roots see both.

Every method is idempotent by the run id or execution key in its argument: activities repeat it.
"""

from pipeline.ports.care import Caretaker, Readiness
from pipeline.ports.host import HostPorts
from pipeline.ports.records import EventPublisher, SdlcStore
from pipeline.ports.work import AgentRuns, Builds, StartListener, Workspaces
from pipeline.ports.workflows import Extender, RuleFacts, Sasha, Waker

__all__ = [
    "AgentRuns",
    "Builds",
    "Caretaker",
    "EventPublisher",
    "Extender",
    "HostPorts",
    "Readiness",
    "RuleFacts",
    "Sasha",
    "SdlcStore",
    "StartListener",
    "Waker",
    "Workspaces",
]
