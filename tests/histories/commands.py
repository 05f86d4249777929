"""What workflow code can command and be told, and which of that a recorded history contains.

A replay refuses an edit that adds, drops or reorders a command, but only of a command that is
recorded. So each of them must occur in some history; what is said here of the code is read from the
code.
"""

import ast
import json
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import astuple
from functools import cache
from pathlib import Path
from typing import Any, cast

from temporalio.workflow import _Definition  # what a class was decorated as

import workflows
from activities import all_activities
from pipeline.ports import HostPorts
from worker import WORKFLOWS

_SOURCES = sorted(Path(workflows.__file__).parent.glob("*.py"))
_ANYTHING = ".+"


def possible() -> set[str]:
    """Everything that workflow code can command, and every message that it takes."""
    lists = all_activities(cast(HostPorts, None))  # they only keep it
    found = {f"activity {each.__name__}" for queue in astuple(lists) for each in queue}
    for definition in map(_Definition.must_from_class, WORKFLOWS):
        found |= {f"signal {definition.name}.{name}" for name in definition.signals}
        found |= {f"update {definition.name}.{name}" for name in definition.updates}
        found.add(f"child {definition.name}")
    return (found - {"child SashaWorkflow"}) | set(_written())  # she is nobody's


def recorded_in(text: str) -> set[str]:
    """What a history in JSON contains of that."""
    events = json.loads(text)["events"]
    started = events[0]["workflowExecutionStartedEventAttributes"]
    return {
        found for event in events for found in _commands(event, started["workflowType"]["name"])
    }


def _commands(event: Mapping[str, Any], workflow: str) -> Iterator[str]:
    kinds = [name for name in event if name.endswith("EventAttributes")]
    told = event[kinds[0]] if kinds else {}
    match kinds:
        case ["activityTaskScheduledEventAttributes"]:
            yield f"activity {told['activityType']['name']}"
        case ["markerRecordedEventAttributes"] if told["markerName"] == "core_local_activity":
            (payload,) = told["details"]["data"]["payloads"]
            yield f"activity {json.loads(b64decode(payload['data']))['activity_type']}"
        case ["workflowExecutionSignaledEventAttributes"]:
            yield f"signal {workflow}.{told['signalName']}"
        case ["workflowExecutionUpdateAcceptedEventAttributes"]:
            yield f"update {workflow}.{told['acceptedRequest']['input']['name']}"
        case ["startChildWorkflowExecutionInitiatedEventAttributes"]:
            yield f"child {told['workflowType']['name']}"
        case ["workflowExecutionContinuedAsNewEventAttributes"]:
            yield f"continue as new {workflow}"
        case ["upsertWorkflowSearchAttributesEventAttributes"]:
            yield "search attributes"
        case ["timerStartedEventAttributes"]:
            summary = event.get("userMetadata", {}).get("summary", {}).get("data", "")
            said = json.loads(b64decode(summary)) if summary else ""
            yield from (timer for timer, texts in _timers() if re.fullmatch(texts, said))


# --- read from the sources ------------------------------------------------------------------------


def _written() -> Iterator[str]:
    yield from (timer for timer, _ in _timers())
    for tree in _trees():
        for workflow in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            if any("continue_as_new" in call for call, _ in _calls(workflow)):
                yield f"continue as new {workflow.name}"
        if any("upsert_search_attributes" in call for call, _ in _calls(tree)):
            yield "search attributes"


@cache
def _timers() -> frozenset[tuple[str, str]]:
    """Each timer, named after its summary, and what matches the summaries that it may have."""
    found = set()
    for function in (node for tree in _trees() for node in ast.walk(tree)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for call, words in _calls(function):
                waits = call == "workflow.wait_condition" and "timeout" in words
                if waits or call == "workflow.sleep":
                    texts = _texts(words.get("summary", words.get("timeout_summary")), function)
                    name = re.sub(r"\\(.)", r"\1", texts.replace(_ANYTHING, "…"))
                    found.add((f"timer {name}".strip(), texts))
    return frozenset(found)


def _texts(summary: ast.expr | None, function: ast.AST) -> str:
    """A pattern of every text that the expression may be."""
    match summary:
        case None:
            return ""
        case ast.Constant(value=str(text)):
            return re.escape(text)
        case ast.JoinedStr(values=parts):
            return "".join(_texts(part, function) for part in parts)
        case ast.FormattedValue():
            return _ANYTHING
        case ast.Name(id=name):
            for node in ast.walk(function):
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
                    return _texts(node.value, function)
    raise AssertionError(f"A timer's summary is neither a text nor a name of one: {summary}")


def _calls(tree: ast.AST) -> Iterator[tuple[str, Mapping[str, ast.expr]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield (
                ast.unparse(node.func),
                {word.arg: word.value for word in node.keywords if word.arg},
            )


def _trees() -> Iterator[ast.Module]:
    return (ast.parse(path.read_text()) for path in _SOURCES)
