"""The agents file is edited while a worker uses it."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from adapters.current_agents import CurrentAgents, read_in_use, version_of
from adapters.health_probe import WORKER_FILE
from pipeline.errors import RefusedInput
from tests.eventually import eventually

FIRST = '[agents.roy]\ncommand = ["sh", "first"]\n'
SECOND = '[agents.roy]\ncommand = ["sh", "second"]\nenvironment = ["NOT_SET_ANYWHERE"]\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "agents.toml"
    path.write_text(FIRST)
    return path


@pytest.fixture
def agents(file: Path) -> CurrentAgents:
    home = file.parent / "home"
    home.mkdir()
    return CurrentAgents(file, home, dict(os.environ))


def edit(file: Path, text: str) -> str:
    """Write it; the version that this makes."""
    file.write_text(text)
    return version_of(file)


def argument(agents: CurrentAgents) -> str:
    """The last word of roy's command."""
    return str(agents().agents["roy"].command[-1])  # type: ignore[union-attr] # a command


def test_an_edit_is_used_at_once_and_an_unchanged_file_is_not_read_again(
    agents: CurrentAgents, file: Path
) -> None:
    assert agents() is agents()
    file.write_text(SECOND)

    assert argument(agents) == "second"
    assert agents.in_use.version == version_of(file)
    assert agents.in_use.problem == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[agents.roy]\ncommand = "sh"\n', "agents.roy.command: must be a list of strings"),
        ("[agents.roy", "agents.toml"),
        ("", "describes no agent"),
        (None, "cannot be read"),
    ],
)
def test_a_broken_edit_keeps_the_last_good_version_and_says_so(
    agents: CurrentAgents,
    file: Path,
    caplog: pytest.LogCaptureFixture,
    text: str | None,
    why: str,
) -> None:
    good = agents.in_use
    if text is None:
        file.unlink()
    else:
        file.write_text(text)

    assert argument(agents) == "first"
    assert argument(agents) == "first"
    assert why in agents.in_use.problem
    assert (agents.in_use.version, agents.in_use.read_at) == (good.version, good.read_at)
    ours = (each for each in caplog.records if each.name == "adapters.current_agents")
    (told,) = [each.getMessage() for each in ours]  # once, however often it is asked
    assert told.startswith("The agents file was edited and cannot be used: ")
    assert ". The worker uses what it read on " in told
    assert f"(version {good.version})" in told
    file.write_text(SECOND)
    assert argument(agents) == "second"
    assert agents.in_use.told == ""


def test_a_worker_does_not_start_with_a_broken_file(file: Path) -> None:
    file.write_text("[agents.nobody]\n")

    with pytest.raises(RefusedInput, match="nobody"):
        CurrentAgents(file, file.parent, {})


async def test_commands_of_the_host_read_what_the_worker_uses_and_lacks(
    agents: CurrentAgents, file: Path
) -> None:
    home = file.parent / "home"
    watching = asyncio.create_task(agents.watch())
    assert read_in_use(home) is None  # no worker lives
    worker = home / WORKER_FILE
    worker.write_text(json.dumps({"pid": os.getpid()}))

    def in_use() -> tuple[str, bool, bool]:
        found = read_in_use(home)
        return (
            (found.version, bool(found.problem), bool(found.missing)) if found else ("", True, True)
        )

    first = version_of(file)
    await eventually(lambda: in_use() == (first, False, False), "it is recorded")
    second = edit(file, SECOND)
    await eventually(lambda: in_use() == (second, False, True), "the edit is recorded")
    edit(file, "[agents.nobody]\n")
    await eventually(lambda: in_use() == (second, True, True), "the problem is recorded")
    found = read_in_use(home)
    assert found
    assert found.missing == ("roy: the variable NOT_SET_ANYWHERE is named but not set",)
    worker.write_text(json.dumps({"pid": 2**22 + 1}))
    assert read_in_use(home) is None
    watching.cancel()
