"""What the directory of a run says beside its row."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.runs import records
from adapters.runs.directory import RunDirectory, RunRecord
from cli.run_work import RunWork, Work
from pipeline.model import RunEnd
from tests.unit.test_cli_board import RUNNING, WORK

RUN_ID = "REQ-1/wf-1/Backend Implementation/1"
VIEW = replace(RUNNING, host="here", stages=(replace(WORK, run_id=RUN_ID),))


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory.of(tmp_path, RUN_ID)
    run.create()
    run.write_order(RunRecord(RUN_ID, "command", "roy", str(run.path), 60, 5, 1.5))
    return run


def work(home: Path, *texts: str) -> list[str]:
    """The last line after each text was printed."""
    look = RunWork(home, "here")
    path = RunDirectory.of(home, RUN_ID).file(records.STDOUT)
    lines = []
    for text in texts:
        with path.open("a") as file:
            file.write(text)
        lines.append(look.of(VIEW)[WORK.stage].last_line)
    return lines


def test_the_last_line_that_is_not_empty_is_found_however_long_the_log(
    run: RunDirectory, tmp_path: Path
) -> None:
    assert work(tmp_path, "one\n\n \n", "x" * 100_000 + "\ntwo", " and more\n") == [
        "one",
        "two",
        "two and more",
    ]


def test_a_known_programs_stream_is_shown_as_its_text(tmp_path: Path) -> None:
    run = RunDirectory.of(tmp_path, RUN_ID)
    run.create()
    run.write_order(RunRecord(RUN_ID, "claude-code", "roy", str(run.path), 60, 5, 60))
    content = [{"type": "text", "text": "I read.\nI write the test."}]
    said = {"type": "assistant", "message": {"content": content}}

    assert work(tmp_path, json.dumps(said) + "\n" + '{"type": "unknown"}\n') == [
        "I write the test."
    ]


def test_an_agent_that_has_ended_is_told_from_one_that_works(
    run: RunDirectory, tmp_path: Path
) -> None:
    assert RunWork(tmp_path, "here").of(VIEW) == {WORK.stage: Work("", None, 1.5)}

    run.write_exit(RunEnd.EXITED, "")

    ended = RunWork(tmp_path, "here").of(VIEW)[WORK.stage].agent_ended_at
    assert ended
    assert ended.timestamp() == pytest.approx(run.file(records.EXIT).stat().st_mtime)


def test_nothing_is_known_of_other_hosts_and_of_runs_that_were_not_ordered(tmp_path: Path) -> None:
    assert RunWork(tmp_path, "there").of(VIEW) == {}
    assert RunWork(tmp_path, "here").of(VIEW) == {WORK.stage: Work()}
