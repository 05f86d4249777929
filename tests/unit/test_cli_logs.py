"""`logs` of a program whose kind is known: readable, and safe for a terminal."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.runs import records
from cli.logs import Log
from tests.agents.recorded import kind_of, recorded


@pytest.fixture(params=["claude-code works", "codex works", "gemini works"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def log(folder: Path, kind: str, lines: list[str]) -> Iterator[str]:
    folder.joinpath(records.ORDER).write_text(json.dumps({"kind": kind}))
    folder.joinpath(records.STDOUT).write_text("".join(f"{line}\n" for line in lines))
    path = folder / records.STDOUT
    yield from (line.decode() for line in Log(path).readable(follow=False))


def test_a_stream_is_shown_as_text_tools_and_results(name: str, tmp_path: Path) -> None:
    shown = list(log(tmp_path, kind_of(name), recorded(name)["output"]))

    assert any(line.startswith("→ ") and "touch ran" in line for line in shown)
    assert not any(line.startswith("{") and '"type"' in line for line in shown)


def test_what_is_no_event_is_shown_as_it_is(tmp_path: Path) -> None:
    said = {"type": "assistant", "message": {"content": [{"type": "text", "text": "a\x1b[2Jb"}]}}

    shown = list(log(tmp_path, "claude-code", ["Warning: old", json.dumps(said), "{broken"]))

    assert shown == ["Warning: old", "a\ufffd[2Jb", "{broken"]


def test_a_command_is_shown_as_it_printed(tmp_path: Path) -> None:
    assert list(log(tmp_path, "command", ['{"type": "result"}'])) == ['{"type": "result"}']


def test_a_run_without_an_order_is_shown_as_it_printed(tmp_path: Path) -> None:
    tmp_path.joinpath(records.STDOUT).write_text("hello\n")

    assert list(Log(tmp_path / records.STDOUT).readable(follow=False)) == [b"hello"]
