"""The messages of the house: what travels between command line, workflow and activities.

Frozen standard-library dataclasses; small by construction (nothing over 64 KB through Temporal).
"""

from pipeline.model.answers import (
    Answer,
    DecisionRequest,
    Extension,
    ExtensionRequest,
    Reopened,
    Reopening,
    RetryRequest,
)
from pipeline.model.builds import BuildOutcome, BuildRequest, BuildResult
from pipeline.model.delivery import DeliveryOutcome, DeliveryRequest, DeliveryState
from pipeline.model.failures import Failure, FailureKind, Severity
from pipeline.model.plan import Group, Pipeline, Stage
from pipeline.model.references import Head, RequirementRef
from pipeline.model.reports import FailureCollection, FailureReport
from pipeline.model.requirement import (
    Closing,
    DeliveryReport,
    Opening,
    OpeningRequest,
    RequirementOrder,
)
from pipeline.model.runs import RunEnd, RunOrder, RunResult
from pipeline.model.stages import (
    BlockedStage,
    Deliverable,
    MergeResult,
    StageContext,
    StageOutcome,
    StageRequest,
    StageSkip,
)
from pipeline.model.states import Mode, Priority, RequirementState, StageState

__all__ = [
    "Answer",
    "BlockedStage",
    "BuildOutcome",
    "BuildRequest",
    "BuildResult",
    "Closing",
    "DecisionRequest",
    "Deliverable",
    "DeliveryOutcome",
    "DeliveryReport",
    "DeliveryRequest",
    "DeliveryState",
    "Extension",
    "ExtensionRequest",
    "Failure",
    "FailureCollection",
    "FailureKind",
    "FailureReport",
    "Group",
    "Head",
    "MergeResult",
    "Mode",
    "Opening",
    "OpeningRequest",
    "Pipeline",
    "Priority",
    "Reopened",
    "Reopening",
    "RequirementOrder",
    "RequirementRef",
    "RequirementState",
    "RetryRequest",
    "RunEnd",
    "RunOrder",
    "RunResult",
    "Severity",
    "Stage",
    "StageContext",
    "StageOutcome",
    "StageRequest",
    "StageSkip",
    "StageState",
]
