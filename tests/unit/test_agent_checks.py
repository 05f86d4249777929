"""What a host lacks that its agents file names."""

import json
from pathlib import Path, PurePath

import pytest

from adapters.agent_checks import split_by_need, what_is_missing, what_is_outdated
from adapters.agent_programs import PROGRAMS
from pipeline.agents_file import AgentsFile, read_agents
from tests.plans import a_plan, a_stage

TEXT = """
[defaults]
kind = "simulated"
[agents.roy]
kind = "command"
command = ["worker-of-roy"]
environment = ["ROY_KEY", "SHARED"]
[agents.jen]
kind = "claude-code"
environment = ["SHARED"]
[agents.tim]
kind = "command"
command = ["{here}/tim"]
[builds.backend]
command = ["./build.sh"]
prepare = ["npm", "ci"]
environment = ["NPM_TOKEN"]
[sasha]
command = ["adviser"]
[delivery]
mode = "pull-request"
"""
SHARED = "roy, jen: the variable SHARED is named but not set"


def program(place: Path, name: str, script: str = "true") -> None:
    (place / name).write_text(f"#!/bin/sh\n{script}\n")
    (place / name).chmod(0o755)


def read(place: Path) -> AgentsFile:
    traits = {kind: each.traits for kind, each in PROGRAMS.items()}
    return read_agents(TEXT.format(here=place), "agents.toml", PurePath(place), traits)


def test_everything_that_is_missing_is_named_once_with_who_needs_it(tmp_path: Path) -> None:
    agents, path = read(tmp_path), str(tmp_path)

    assert set(what_is_missing(agents, {"PATH": path})) == {
        "roy: the program worker-of-roy is not found",
        "jen: the program claude is not found",
        f"tim: the program {tmp_path}/tim is not found",
        "build backend: the program npm is not found",
        "sasha: the program adviser is not found",
        "delivery: the program gh is not found",
        "roy: the variable ROY_KEY is named but not set",
        SHARED,
        "build backend: the variable NPM_TOKEN is named but not set",
    }
    for name in ("worker-of-roy", "claude", "tim", "npm", "adviser", "gh"):
        program(tmp_path, name)
    given = {"PATH": path, "ROY_KEY": "", "NPM_TOKEN": "t"}
    assert what_is_missing(agents, given) == (SHARED,)


def test_only_what_the_pipelines_need_is_asked_for(tmp_path: Path) -> None:
    agents = read(tmp_path)
    docs = a_plan(a_stage("Docs", "tim"))

    missing = what_is_missing(agents, {"PATH": str(tmp_path)}, [docs])

    assert missing == (
        f"tim: the program {tmp_path}/tim is not found",
        "sasha: the program adviser is not found",
        "delivery: the program gh is not found",
    )


def test_what_a_pipeline_does_not_need_is_told_apart(tmp_path: Path) -> None:
    """Also of what several name, of whom it needs one."""
    agents = read(tmp_path)
    docs = a_plan(a_stage("Docs", "tim"))
    of_tim = "jen, tim: the variable KEY is named but not set"
    missing = (of_tim, "roy: the program worker-of-roy is not found")

    assert split_by_need(missing, agents, [docs]) == (missing[:1], missing[1:])


@pytest.mark.parametrize(
    ("said", "warning"),
    [
        ("2.1.196 (Claude Code)", "claude is 2.1.196, and claude-code was tested with 2.1.197"),
        ("1.99.999", "claude is 1.99.999, and"),
        ("2.1.197 (Claude Code)", ""),
        ("2.1.1000-beta.1", ""),
        ("10.0.0", ""),
        ("nothing", "claude --version does not tell a version (exit code 0)"),
    ],
)
async def test_an_older_program_than_the_tested_one_is_told(
    tmp_path: Path, said: str, warning: str
) -> None:
    program(tmp_path, "claude", f"echo '{said}'")
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}

    found = await what_is_outdated(read(tmp_path), environment)

    assert len(found) == bool(warning)
    assert warning in " ".join(found)


def test_the_tested_versions_are_those_of_the_tests() -> None:
    packages = Path(__file__).parent.parent / "agents" / "package.json"
    installed = json.loads(packages.read_text())["dependencies"]

    tested = [each.traits.tested for each in PROGRAMS.values() if not each.traits.is_remote]
    assert sorted(installed.values()) == sorted(tested)
