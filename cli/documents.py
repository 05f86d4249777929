"""The JSON that commands print about requirements: a contract of its own, apart from the views."""

from collections.abc import Mapping
from dataclasses import asdict

from adapters.sdlc_views import RequirementSummary, RequirementView, StageView


def status_document(view: RequirementView) -> Mapping[str, object]:
    """What `status` and `watch` say of a requirement."""
    return {
        "req_number": view.number,
        "state": view.state,
        "title": view.title,
        "priority": view.priority,
        "pipeline": view.pipeline,
        "mode": view.mode,
        "round": view.round,
        "stages": [_stage(stage) for stage in view.stages],
        "gates": [asdict(gate) for gate in view.gates],
        "failures": [asdict(failure) for failure in view.failures],
        "waiting_for": view.waiting_for,
    }


def summary_document(summary: RequirementSummary) -> Mapping[str, object]:
    """What `list` says of a requirement."""
    fields = asdict(summary)
    return {"req_number": fields.pop("number"), **fields}


def _stage(stage: StageView) -> Mapping[str, object]:
    return {
        "stage": stage.stage,
        "agent": stage.agent,
        "state": stage.state,
        "attempt": stage.attempt,
        "starts": stage.starts,
        "started_at": stage.started_at,
        "ended_at": stage.ended_at,
        "reason": stage.reason,
    }
