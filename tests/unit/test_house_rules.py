"""What the documents promise about the cluster, held against the cluster."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline.agents_file import check_plan, read_agents
from pipeline.plan_file import read_pipeline

HOUSE = Path(__file__).parent.parent.parent


def test_every_room_on_the_map_is_there() -> None:
    table = (HOUSE / "AGENTS.md").read_text().partition("## The map")[2].partition("\n## ")[0]
    rooms = [name for row in re.findall(r"^\| (`.*?) \|", table, re.M) for name in _names(row)]

    assert len(rooms) > 10
    assert [room for room in rooms if not (HOUSE / room).exists()] == []


DOCUMENTS = ["README.md", "AGENTS.md", *(f"docs/{p.name}" for p in (HOUSE / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_a_document_names_is_there(document: str) -> None:
    """A name without its folder follows one with it, or a picture of the folder."""
    text = (HOUSE / document).read_text()
    paths = set(re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.(?:py|toml|md))?)`", text))
    names = set(re.findall(r"`([a-z_]+\.(?:py|html))`", text))
    rooms = (room for room in HOUSE.glob("[a-z]*/") if room.name != "tests")
    ours = {path.name for place in (*rooms, *HOUSE.glob("*.py")) for path in _files(place)}

    assert [path for path in paths if not (HOUSE / path).exists()] == []
    assert names <= ours


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() else list(place.rglob("*.*"))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_a_document_says_to_be_in_a_file_is_in_it(document: str) -> None:
    found = re.findall(r"`(\w+)`\sin\s`([a-z_/]+\.py)`", (HOUSE / document).read_text())

    assert [(what, file) for what, file in found if what not in (HOUSE / file).read_text()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_of_a_document_leads_somewhere(document: str) -> None:
    page = HOUSE / document
    links = re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page.read_text())
    local = [
        (page.parent / path if path else page, part) for path, part in links if "://" not in path
    ]

    assert [str(path) for path, _ in local if not path.exists()] == []
    assert [part for path, part in local if part and part not in _anchors(path)] == []


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^a-z0-9 _-]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("document", ["README.md", "AGENTS.md"])
def test_every_make_target_that_a_document_names_is_there(document: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (HOUSE / "Makefile").read_text(), re.M))
    named = set(re.findall(r"\bmake ([a-z-]+)", (HOUSE / document).read_text()))

    assert named <= targets


def test_example_of_an_agents_file_serves_every_shipped_pipeline_of_the_eleven() -> None:
    example = HOUSE / "agents.example.toml"
    agents = read_agents(example.read_text(), example.name, HOUSE)

    for path in (HOUSE / "pipelines").glob("*.toml"):
        plan = read_pipeline(path.read_text(), path.name)
        if not any(stage.declared for stage in plan.stages):
            check_plan(agents, plan)


def test_what_lands_is_what_make_checks_and_tests() -> None:
    commands = [shlex.split(line) for line in (HOUSE / ".ci" / "run").read_text().splitlines()]

    assert ["make", "check"] in commands
    assert ["make", "test"] in commands


@pytest.mark.parametrize("room", ["workflows", "pipeline"])
@pytest.mark.parametrize(
    "impurity",
    ["import time", "import random", "import os", "from uuid import uuid4", "open('x')"],
)
def test_what_a_replay_would_do_differently_is_refused(room: str, impurity: str) -> None:
    name = str(HOUSE / room / "impure.py")
    command = [sys.executable, "-m", "ruff", "check", "--select", "TID251,PTH123", "-"]

    result = subprocess.run(
        [*command, "--stdin-filename", name], input=impurity, text=True, capture_output=True
    )

    assert result.returncode == 1, result.stderr


def test_the_rules_of_every_room_hold_in_workflows_too() -> None:
    def banned(path: str) -> dict[str, object]:
        config = tomllib.loads((HOUSE / path).read_text())
        lint = config["tool"]["ruff"]["lint"] if "tool" in config else config["lint"]
        rules: dict[str, object] = lint["flake8-tidy-imports"]["banned-api"]
        return rules

    assert banned("pyproject.toml").items() <= banned("workflows/ruff.toml").items()


def _names(row: str) -> list[str]:
    return re.findall(r"`([^`]+)`", row)
