import ast
from dataclasses import astuple
from pathlib import Path
from typing import cast

from activities import all_activities
from pipeline.ports import HostPorts

WORKFLOWS = Path(__file__).parent.parent.parent / "workflows"


def executed() -> set[str]:
    """Every activity that the workflows execute, as `Class.method`."""
    return {
        ast.unparse(node)
        for path in WORKFLOWS.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("Activities")
    }


def test_every_activity_that_a_workflow_executes_is_listed_once() -> None:
    lists = all_activities(cast(HostPorts, None))  # they only keep it
    listed = [each.__qualname__ for queue in astuple(lists) for each in queue]

    assert sorted(listed) == sorted(executed())
