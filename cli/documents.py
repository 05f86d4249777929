"""The JSON that commands print about requirements: a contract of its own, apart from the views."""

from collections.abc import Mapping
from dataclasses import asdict

from adapters.sdlc.views import (
    EscalationView,
    FixView,
    ListedRequirement,
    RequirementView,
    RetryView,
    StageView,
)
from cli.holds_view import stands_still


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
        "stages": [_stage(stage, view) for stage in view.stages],
        "gates": [asdict(gate) for gate in view.gates],
        "failures": [asdict(failure) for failure in view.failures],
        "waiting_for": view.waiting_for,
        "parent": view.parent,
        "assignee": view.assignee,
        "fixes": [fix_document(fix) for fix in view.fixes],
        "escalation": _question(view.escalation) if view.escalation else None,
        "queued": [asdict(queued) for queued in view.queued],
        "holds": [asdict(hold) for hold in view.holds],
        "past_holds": [asdict(hold) for hold in view.past_holds],
        "holders": [
            {"req_number": holder.number, "state": holder.state} for holder in view.holders
        ],
        "retries": [retry_document(retry) for retry in view.retries],
        "leftover": asdict(view.leftover) if view.leftover else None,
        "turn": asdict(view.turn) if view.turn else None,
        "reason": view.reason,
        "host": view.host,
        "created_at": view.created_at,
        "started_at": view.started_at,
        "ended_at": view.ended_at,
    }


def fix_document(fix: FixView) -> Mapping[str, object]:
    """What is said of a fix where its requirement is shown."""
    fields = asdict(fix)
    return {"req_number": fields.pop("number"), **fields}


def summary_document(summary: ListedRequirement) -> Mapping[str, object]:
    """What `list` says of a requirement."""
    fields = asdict(summary)
    retries = [retry_document(retry) for retry in summary.retries]
    return {"req_number": fields.pop("number"), **fields, "retries": retries}


def retry_document(retry: RetryView) -> Mapping[str, object]:
    """What is said of a step that fails and is tried again."""
    fields = asdict(retry)
    return {"req_number": fields.pop("number"), **fields}


def _question(escalation: EscalationView) -> Mapping[str, object]:
    """An open question: nothing is known yet of its answer."""
    return {
        "escalation": escalation.escalation,
        "round": escalation.round,
        "asks": [asdict(ask) for ask in escalation.asks],
        "answers": escalation.answers,
        "created_at": escalation.created_at,
        "reminders": escalation.reminders,
    }


def _stage(stage: StageView, view: RequirementView) -> Mapping[str, object]:
    return {
        "stage": stage.stage,
        "agent": stage.agent,
        "state": stage.state,
        "attempt": stage.attempt,
        "starts": stage.starts,
        "started_at": stage.started_at,
        "ended_at": stage.ended_at,
        "reason": stage.reason,
        "stands_still": stands_still(stage, view),
        "remarks": stage.remarks,
    }
