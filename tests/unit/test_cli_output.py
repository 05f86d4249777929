import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from cli import output
from cli.running import STARTER, ExitCode, exit_code_of_error, exit_code_of_state
from pipeline.errors import (
    AgentsFileRefused,
    AlreadyStarted,
    DependencyUnavailable,
    GitFailed,
    PipelineError,
    PlanRefused,
    ProjectRefused,
    ServerNotStarted,
    UnknownRequirement,
)
from pipeline.model import RequirementState


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PlanRefused("f", "k", "r"), 2),
        (AgentsFileRefused("f", "k", "r"), 2),
        (ProjectRefused("r"), 2),
        (AlreadyStarted(), 2),
        (UnknownRequirement(), 3),
        (DependencyUnavailable("NATS", "a", "r"), 6),
        (ServerNotStarted("NATS", "r"), 6),
        (GitFailed(), 1),
    ],
)
def test_an_error_has_the_exit_code_of_its_type(error: PipelineError, code: int) -> None:
    assert exit_code_of_error(error) == code


@pytest.mark.parametrize(
    ("state", "code"), [("DELIVERED", 0), ("FAILED", 1), ("BLOCKED", 4), ("CANCELLED", 5)]
)
def test_a_state_that_ends_a_watch_has_its_exit_code(state: str, code: int) -> None:
    assert exit_code_of_state(RequirementState(state)) == ExitCode(code)


def test_a_document_carries_its_schema_version_and_times_in_utc(
    capsys: pytest.CaptureFixture[str],
) -> None:
    east = timezone(timedelta(hours=2))
    output.write_json({"at": datetime(2026, 1, 1, 14, 0, tzinfo=east), "name": "Grüße"})

    written = capsys.readouterr().out
    assert json.loads(written) == {
        "schema_version": 1,
        "at": "2026-01-01T12:00:00.000Z",
        "name": "Grüße",
    }
    assert "Grüße" in written


def test_text_of_an_agent_cannot_steer_the_terminal() -> None:
    assert output.plain("a\x1b[2Jb\x07\x9b1m\tc\r\nd") == "a\ufffd[2Jb\ufffd\ufffd1m\tc\nd"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (59.94, "59.9s"),
        (59.96, "1m00s"),
        (60, "1m00s"),
        (3599.6, "1h00m"),
        (7260, "2h01m"),
    ],
)
def test_a_duration_is_said_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert output.duration(seconds) == text


def test_clock_is_empty_for_what_has_not_happened() -> None:
    assert output.clock(None) == ""
    assert output.clock(datetime(2026, 1, 1, tzinfo=UTC)).count(":") == 2


def test_a_bar_lies_where_its_stretch_does_and_is_never_empty() -> None:
    assert output.bar(0, 50, 100, width=10) == "█████"
    assert output.bar(50, 100, 100, width=10) == "     █████"
    assert output.bar(100, 100, 100, width=10) == "         █"  # the last column
    assert output.bar(33, 33.1, 100, width=10) == "   █"
    assert output.bar(0, 0, 0) == ""


@pytest.mark.parametrize(
    ("said", "called"),
    [
        ("Answer: python starter.py retry REQ-1", "Answer: python {}/starter.py retry REQ-1"),
        ("Start it with `starter.py up`.", "Start it with `python {}/starter.py up`."),
        ("python worker.py, or no worker", "python {}/worker.py, or no worker"),
        ("See /srv/starter.py and my-starter.py", "See /srv/starter.py and my-starter.py"),
    ],
)
def test_a_command_is_told_as_it_can_be_typed_where_the_user_stands(
    said: str,
    called: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ours = STARTER.parent
    monkeypatch.chdir(ours)
    output.data().print(said)
    monkeypatch.chdir(tmp_path)
    output.say(said)
    output.data().print(said, soft_wrap=True)
    output.hint(said)
    output.write(said)  # data of the user's stays as it is

    shown = capsys.readouterr()
    told = called.format(ours)
    assert shown.err == f"{told}\n"
    assert shown.out == f"{said}\n{told}\n{told}\n{said}\n"
