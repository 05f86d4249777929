"""The messages of the house: what travels between command line, workflow and activities.

Frozen standard-library dataclasses; small by construction (nothing over 64 KB through Temporal).
"""

from pipeline.model.answers import (
    HUMAN,
    ORCHESTRATOR,
    REPAIR,
    RETRY,
    REWORK,
    Answer,
    Ask,
    DecisionRequest,
    Escalation,
    Extension,
    ExtensionRequest,
    Reminder,
    Reopened,
    Reopening,
    RetryRequest,
)
from pipeline.model.builds import BuildOutcome, BuildRequest, BuildResult, Proof
from pipeline.model.cards import StageCard
from pipeline.model.carried import Carried, Counts
from pipeline.model.delivery import DeliveryOutcome, DeliveryRequest, DeliveryState
from pipeline.model.failures import Failure, FailureKind, Severity
from pipeline.model.fixes import (
    Fix,
    FixMerge,
    FixMerged,
    FixOpening,
    GivenUp,
    MergedFix,
    Recovered,
    Recovery,
    Settlement,
    Traces,
)
from pipeline.model.holds import RELEASE, REPAIRED, Held, Hold, Wake
from pipeline.model.incidents import (
    DEPENDENCIES,
    Incident,
    IncidentEnd,
    InfrastructureOpening,
    InfrastructureOrder,
    Repair,
    SashaCall,
    SashaState,
    Symptom,
    SymptomKind,
    Treatment,
)
from pipeline.model.opening import FixBase, Opening, OpeningRequest
from pipeline.model.plan import Bounds, Group, Pipeline, Stage
from pipeline.model.references import Head, RequirementRef
from pipeline.model.reports import FailureCollection, FailureReport
from pipeline.model.requirement import (
    Closing,
    DeliveryReport,
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
from pipeline.model.standing import Standing
from pipeline.model.states import Mode, Priority, RequirementState, StageState
from pipeline.model.tally import Tally

__all__ = [
    "DEPENDENCIES",
    "HUMAN",
    "ORCHESTRATOR",
    "RELEASE",
    "REPAIR",
    "REPAIRED",
    "RETRY",
    "REWORK",
    "Answer",
    "Ask",
    "BlockedStage",
    "Bounds",
    "BuildOutcome",
    "BuildRequest",
    "BuildResult",
    "Carried",
    "Closing",
    "Counts",
    "DecisionRequest",
    "Deliverable",
    "DeliveryOutcome",
    "DeliveryReport",
    "DeliveryRequest",
    "DeliveryState",
    "Escalation",
    "Extension",
    "ExtensionRequest",
    "Failure",
    "FailureCollection",
    "FailureKind",
    "FailureReport",
    "Fix",
    "FixBase",
    "FixMerge",
    "FixMerged",
    "FixOpening",
    "GivenUp",
    "Group",
    "Head",
    "Held",
    "Hold",
    "Incident",
    "IncidentEnd",
    "InfrastructureOpening",
    "InfrastructureOrder",
    "MergeResult",
    "MergedFix",
    "Mode",
    "Opening",
    "OpeningRequest",
    "Pipeline",
    "Priority",
    "Proof",
    "Recovered",
    "Recovery",
    "Reminder",
    "Reopened",
    "Reopening",
    "Repair",
    "RequirementOrder",
    "RequirementRef",
    "RequirementState",
    "RetryRequest",
    "RunEnd",
    "RunOrder",
    "RunResult",
    "SashaCall",
    "SashaState",
    "Settlement",
    "Severity",
    "Stage",
    "StageCard",
    "StageContext",
    "StageOutcome",
    "StageRequest",
    "StageSkip",
    "StageState",
    "Standing",
    "Symptom",
    "SymptomKind",
    "Tally",
    "Traces",
    "Treatment",
    "Wake",
]
