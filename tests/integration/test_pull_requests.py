"""Pull requests by a command, against a service on files: one at most, whatever happens when."""

import json
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from adapters.pull_requests import PLACE, PullRequestCommands
from pipeline.agents_file import read_agents
from pipeline.errors import ProjectRefused
from pipeline.model import PullRequestOrder
from tests import forge

ORDER = PullRequestOrder(
    "REQ-1", "REQ-1: Say {branch}", "agog/REQ-1-say", "main", "origin", "# Wörter\n", attempt=1
)
URL = "http://forge.invalid/pull/1"


@pytest.fixture
def service(tmp_path: Path) -> Path:
    place = tmp_path / "forge"
    place.mkdir()
    return place


def commands(tmp_path: Path, table: str) -> PullRequestCommands:
    agents = read_agents(table, "agents.toml", PurePosixPath("/"))
    variables = {"PATH": "/usr/bin:/bin", "TOKEN": "secret", "OTHER": "x"}
    return PullRequestCommands(lambda: agents, tmp_path / "home", tmp_path, variables)


def note(tmp_path: Path, **fields: object) -> None:
    """What a worker has noted that was killed."""
    place = tmp_path / "home" / PLACE / "REQ-1"
    place.mkdir(parents=True)
    (place / "pull-request.json").write_text(json.dumps({"branch": ORDER.branch, **fields}))


async def test_it_is_made_once_and_its_address_is_kept(service: Path, tmp_path: Path) -> None:
    table = forge.settings(service, finds=False)
    first = await commands(tmp_path, table).open(ORDER)
    second = await commands(tmp_path, table).open(replace(ORDER, attempt=2))

    (request,) = forge.requests(service)
    assert (first, second) == (URL, URL)
    assert (request["title"], request["body"]) == ("REQ-1: Say {branch}", "# Wörter\n")
    assert (request["branch"], request["target"]) == (ORDER.branch, "main")


async def test_it_is_looked_for_before_it_is_made(service: Path, tmp_path: Path) -> None:
    await commands(tmp_path, forge.settings(service)).open(ORDER)
    (tmp_path / "home" / PLACE / "REQ-1" / "pull-request.json").unlink()

    again = await commands(tmp_path, forge.settings(service)).open(ORDER)

    assert again == URL
    assert forge.calls(service) == ["find", "create", "find"]
    assert len(forge.requests(service)) == 1


async def test_what_was_cut_off_and_cannot_be_looked_for_asks_before_it_is_made_again(
    service: Path, tmp_path: Path
) -> None:
    note(tmp_path)
    pull_requests = commands(tmp_path, forge.settings(service, finds=False))

    for _ in range(2):  # the second is a repeat of the same try
        with pytest.raises(ProjectRefused, match="nobody knows whether it made"):
            await pull_requests.open(ORDER)
    assert forge.calls(service) == []
    answered = await pull_requests.open(replace(ORDER, attempt=2))

    assert answered == URL
    assert len(forge.requests(service)) == 1


async def test_a_refusal_is_told_in_its_words_and_tried_again_at_the_next_answer(
    service: Path, tmp_path: Path
) -> None:
    (service / "refuses").write_text("HTTP 422: main is protected\n")
    pull_requests = commands(tmp_path, forge.settings(service, finds=False))

    with pytest.raises(ProjectRefused, match=r"(?s)not made.*exit code 1.*main is protected") as no:
        await pull_requests.open(ORDER)
    (service / "refuses").unlink()
    made = await pull_requests.open(ORDER)

    assert "the branch agog/REQ-1-say, pushed to origin" in str(no.value)
    assert made == URL


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ('["./nowhere"]', "nowhere cannot be run: No such file"),
        ('["sh", "-c", "sleep 60"]', "has not ended within 0.5 s"),
    ],
)
async def test_a_command_that_cannot_say_is_told(tmp_path: Path, command: str, reason: str) -> None:
    table = f"[delivery]\ncommand = {command}\ntimeout_seconds = 0.5"

    with pytest.raises(ProjectRefused, match=reason):
        await commands(tmp_path, table).open(ORDER)


async def test_the_command_sees_its_own_variables_alone(tmp_path: Path) -> None:
    script = 'echo "$TOKEN,$OTHER,$AGOG_BRANCH,$PWD"'
    table = f"[delivery]\ncommand = ['sh', '-c', '{script}']\nenvironment = ['TOKEN']"

    assert await commands(tmp_path, table).open(ORDER) == f"secret,,{ORDER.branch},{tmp_path}"
