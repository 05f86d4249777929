"""`slots` on a state directory without a worker."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters.runs import records
from adapters.runs.directory import RunDirectory
from adapters.runs.slots import SlotLimit
from cli.app import app
from pipeline.errors import RefusedInput

runner = CliRunner()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AGOG_HOME", str(tmp_path))
    monkeypatch.setenv("MAX_PARALLEL_STAGES", "4")
    return tmp_path


def shown(*arguments: str) -> dict[str, object]:
    said = runner.invoke(app, ["slots", "--json", *arguments])
    assert said.exit_code == 0, said.output
    return dict(json.loads(said.output))


def a_run(home: Path, stage: str, *files: str) -> RunDirectory:
    run = RunDirectory.of(home, f"REQ-1/wf-1/{stage}/1")
    run.create()
    for name in files:
        run.file(name).write_text("2026-01-01T00:00:00+00:00\n")
    return run


def test_slots_are_set_shown_and_reset(home: Path) -> None:
    assert shown("3")["slots"] == 3
    assert shown() == {
        "schema_version": 1,
        "slots": 3,
        "configured": 4,
        "set": 3,
        "lowered": None,
        "living": 0,
        "suspended": 0,
        "waiting": 0,
    }
    assert (shown("--reset")["slots"], shown()["set"]) == (4, None)


def test_a_limit_of_the_while_is_shown_with_its_reason(home: Path) -> None:
    SlotLimit(home, 4).lower(2, "memory is short")

    said = runner.invoke(app, ["slots"])

    assert said.exit_code == 0
    assert "memory is short" in said.output
    assert shown()["lowered"] == {"to": 2, "why": "memory is short"}


def test_runs_are_counted_by_what_their_directories_say(home: Path) -> None:
    a_run(home, "living", records.ORDER)
    a_run(home, "suspended", records.ORDER, records.SUSPENSIONS)
    a_run(home, "waiting", records.QUEUED)
    a_run(home, "asked for", records.LOCK)
    a_run(home, "ended", records.ORDER, records.EXIT)

    assert [shown()[name] for name in ("living", "suspended", "waiting")] == [1, 1, 1]
    assert "Agents: 1 living, 1 suspended, 1 waiting." in runner.invoke(app, ["slots"]).output


@pytest.mark.parametrize("arguments", [["0"], ["1001"], ["-3"], ["3", "--reset"]])
def test_no_number_of_slots_is_refused(home: Path, arguments: list[str]) -> None:
    said = runner.invoke(app, ["slots", *arguments])

    assert isinstance(said.exception, RefusedInput) or said.exit_code == 2
    assert shown()["slots"] == 4
