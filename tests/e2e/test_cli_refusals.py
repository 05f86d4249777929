import asyncio
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from temporalio.client import Client

from adapters.local_stack import StackAddresses
from adapters.temporal.workflows import workflow_status
from pipeline.team import TEAM
from tests.e2e.conftest import Cli

COMMAND_AGENT = '[defaults]\nkind = "command"\ncommand = ["true"]\n'


NUMBERS = ("REQ-1", "../REQ-1", "REQ-1;id", "REQ-1-FIX-1")
"""Which the tests below try to start."""


async def traces(stack: StackAddresses) -> tuple[int, list[str]]:
    """How many rows there are, and those of the numbers that are workflows.

    Temporal's lists and counts lag behind: they would show what an earlier test has started.
    """
    client = await Client.connect(stack.temporal_address)
    address = stack.database_url.replace("postgresql+psycopg", "postgresql")
    async with await psycopg.AsyncConnection.connect(address) as database:
        row = await (await database.execute("SELECT count(*) FROM requirements")).fetchone()
    assert row
    return row[0], [number for number in NUMBERS if await workflow_status(client, number)]


@pytest.fixture
def no_traces(cli: Cli, stack: StackAddresses) -> Iterator[None]:
    """Whatever the test does leaves no row and no workflow."""
    before = asyncio.run(traces(stack))
    yield
    assert asyncio.run(traces(stack)) == before


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.invalid")
    (path / "README.md").write_text("# Project\n")
    for arguments in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "."),
        (*identity, "commit", "--quiet", "-m", "first"),
    ):
        git(path, *arguments)
    return path


def git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ("git", *arguments), cwd=directory, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.mark.usefixtures("no_traces")
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("../REQ-1", "--title", "x"), "not of the form"),
        (("REQ-1;id", "--title", "x"), "not of the form"),
        (("REQ-1-FIX-1", "--title", "x"), "ends like a fix"),
        (("--title", "x"), "A number is missing"),
        (("REQ-1",), "A title is missing"),
        (("REQ-1", "--title", "x", "--pipeline", "nope"), "Unknown pipeline 'nope'"),
        (("REQ-1", "--title", "x", "--pipeline", "./nope.toml"), "No such file"),
        (("REQ-1", "--title", "x", "--priority", "P9"), "--priority"),
        (("REQ-1", "--file", "absent.md"), "No such file"),
        (("REQ-1", "--batch", "absent.jsonl"), "--batch stands alone"),
    ],
)
def test_bad_input_is_refused(cli: Cli, arguments: tuple[str, ...], reason: str) -> None:
    said = cli("start", *arguments)

    assert (said.code, said.out) == (2, "")
    assert reason in said.err
    assert "Traceback" not in said.err


@pytest.mark.usefixtures("no_traces")
def test_a_title_of_a_megabyte_is_refused_in_one_short_sentence(cli: Cli, tmp_path: Path) -> None:
    title = "x" * 1_000_000
    requirement = tmp_path / "requirement.md"
    requirement.write_text(f"# {title}\n")
    backlog = tmp_path / "backlog.jsonl"
    backlog.write_text(json.dumps({"req": "REQ-1", "title": title}))

    for arguments in (("REQ-1", "--file", str(requirement)), ("--batch", str(backlog))):
        said = cli("start", *arguments)
        assert said.code == 2
        assert "Title of 1000000 characters: at most 500." in said.err
        assert len(said.err) < 500


@pytest.mark.usefixtures("no_traces")
def test_an_agents_file_that_cannot_do_it_is_refused(cli: Cli, tmp_path: Path) -> None:
    for text, reason in (
        (None, "set AGOG_AGENTS_FILE"),
        ("not toml", "TOML"),
        ("[agents.roy]\nkind = 'simulated'\n", "agents.cynthia: is missing"),
    ):
        agents = tmp_path / "agents.toml"
        if text is not None:
            agents.write_text(text)
        said = cli("start", "REQ-1", "--title", "x", AGOG_AGENTS_FILE=str(agents))
        assert said.code == 2
        assert reason in said.err
        assert str(agents) in said.err


@pytest.mark.usefixtures("no_traces")
def test_a_project_that_cannot_be_worked_on_is_refused(
    cli: Cli, tmp_path: Path, project: Path
) -> None:
    agents = tmp_path / "agents.toml"
    agents.write_text(COMMAND_AGENT + "".join(f"[agents.{name}]\n" for name in TEAM))
    dirty = tmp_path / "dirty"
    shutil.copytree(project, dirty)
    (dirty / "README.md").write_text("changed")

    for root, reason in (
        ("", "PROJECT_ROOT is not set"),
        (str(tmp_path / "absent"), "is not a directory"),
        (str(tmp_path), "cannot be used as a git repository"),
        (str(dirty), "uncommitted changes"),
    ):
        environment = {"AGOG_AGENTS_FILE": str(agents), "PROJECT_ROOT": root}
        said = cli("start", "REQ-1", "--title", "x", **environment)
        assert said.code == 2, said.err
        assert reason in said.err
    assert git(dirty, "branch", "--list").split() == ["*", "main"]
    git(project, "remote", "add", "origin", str(tmp_path))
    git(project, "update-ref", "refs/remotes/origin/next", "HEAD")
    environment = {"AGOG_AGENTS_FILE": str(agents), "PROJECT_ROOT": str(project)}
    for target, reason in (
        ("next", "has no branch next. Make it first: git branch next origin/next"),
        ("agog/REQ-1", "a branch of the orchestrator"),
        ("a..b", "'a..b' is no name of a branch"),
        (" ", "--target is empty"),
    ):
        said = cli("start", "REQ-1", "--title", "x", "--target", target, **environment)
        assert said.code == 2, said.err
        assert reason in said.err
    simulated = cli("start", "REQ-1", "--title", "x", "--target", "main")
    assert simulated.code == 2
    assert "there is nothing to deliver" in simulated.err


@pytest.mark.usefixtures("no_traces")
def test_project_of_another_user_is_told_by_start_and_doctor(
    cli: Cli, tmp_path: Path, project: Path
) -> None:
    agents = tmp_path / "agents.toml"
    agents.write_text(COMMAND_AGENT + "".join(f"[agents.{name}]\n" for name in TEAM))
    environment = {
        "AGOG_AGENTS_FILE": str(agents),
        "PROJECT_ROOT": str(project),
        "GIT_TEST_ASSUME_DIFFERENT_OWNER": "1",  # as git's own tests do
    }

    start = cli("start", "REQ-1", "--title", "x", **environment)
    doctor = cli("doctor", **environment)

    assert start.code == 2
    for said in (start.err, doctor.out + doctor.err):
        words = " ".join(said.split())
        assert "dubious ownership" in words
        assert f"git config --global --add safe.directory {project}" in words


@pytest.mark.parametrize(
    ("variable", "address", "dependency"),
    [
        ("TEMPORAL_ADDRESS", "{host}", "Temporal"),
        ("NATS_URL", "nats://{host}", "NATS"),
        ("DATABASE_URL", "postgresql+psycopg://agog@{host}/agog", "SDLC database"),
    ],
)
@pytest.mark.usefixtures("no_traces")
def test_a_dependency_that_does_not_answer_is_named_within_five_seconds(
    cli: Cli, variable: str, address: str, dependency: str
) -> None:
    idle = time.monotonic()
    cli("plan")
    start_up = time.monotonic() - idle

    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, never answers
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        begin = time.monotonic()
        said = cli("start", "REQ-1", "--title", "x", **{variable: address.format(host=host)})
        seconds = time.monotonic() - begin

    assert (said.code, said.out) == (6, "")
    assert f"{dependency} cannot be reached at {host}" in said.err
    assert "starter.py up" in said.err
    assert seconds < 5.0 + 8 * start_up  # `plan` loads an eighth of what `start` does


def test_every_dependency_that_is_down_is_named(bare_cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    down = {
        "TEMPORAL_ADDRESS": f"127.0.0.1:{port}",
        "NATS_URL": f"nats://127.0.0.1:{port}",
        "DATABASE_URL": f"postgresql+psycopg://agog:secret@127.0.0.1:{port}/agog",
    }

    said = bare_cli("start", "REQ-1", "--title", "x", **down)
    seen = bare_cli("doctor", "--json", **down)

    assert said.code == 6
    assert [line.partition(" cannot")[0] for line in said.err.splitlines()] == [
        "Error: Temporal",
        "Error: SDLC database",
        "Error: NATS",
    ]
    assert "secret" not in said.err
    assert seen.code == 6
    ailing = {check["name"]: check["advice"] for check in seen.document["checks"]}
    assert "starter.py up" in ailing["NATS"]
    assert not seen.document["ok"]


def test_settings_that_make_no_sense_are_refused_without_their_value(bare_cli: Cli) -> None:
    said = bare_cli("status", "REQ-1", MAX_PARALLEL_STAGES="hunter2")

    assert said.code == 2
    assert "MAX_PARALLEL_STAGES" in said.err
    assert "hunter2" not in said.err
