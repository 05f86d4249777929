import stat

import pytest

from adapters.runs.directory import RunDirectory
from pipeline.agents_file import CommandAgent
from tests.fixtures_runs import Bench, attach

OWN = ("AGOG_PORT_BASE", "AGOG_PORT_COUNT", "AGOG_DATABASE", "COMPOSE_PROJECT_NAME", "TMPDIR")
SECRET = "s3cr3t-value"
HOST = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/home/someone",
    "LANG": "C",
    "TERM": "dumb",
    "MY_API_KEY": SECRET,
    "DATABASE_URL": "postgresql://nobody's business",
    "CLAUDECODE": "1",
}


async def environment_of(runs: Bench, *names: str, **changes: object) -> dict[str, str]:
    runs.environment = HOST
    runs.agents["roy"] = CommandAgent(("env", "-0"), names)
    result = await attach(runs.host(), runs.order(**changes))
    return dict(line.split("=", 1) for line in result.output.split("\0") if line)


def path_of(run: RunDirectory) -> str:
    return str(run.path)


async def test_an_agent_sees_the_contract_and_what_is_let_through_and_no_more(runs: Bench) -> None:
    worktree = runs.home / "tree"
    worktree.mkdir()

    seen = await environment_of(runs, "MY_API_KEY", "UNSET", worktree=str(worktree), attempt=2)

    own = {name: seen.pop(name) for name in OWN}
    assert own["COMPOSE_PROJECT_NAME"].startswith("agog-req-1-backend-implementation-2-")
    assert seen == {
        "AGOG_REQUIREMENT": "REQ-1",
        "AGOG_STAGE": "Backend Implementation",
        "AGOG_AGENT": "roy",
        "AGOG_ATTEMPT": "2",
        "AGOG_WORKTREE": str(worktree),
        "AGOG_RUN_DIR": path_of(runs.directory(runs.order(attempt=2))),
        "AGOG_OUTBOX": f"{path_of(runs.directory(runs.order(attempt=2)))}/outbox",
        "PATH": HOST["PATH"],
        "HOME": "/home/someone",
        "LANG": "C",
        "TERM": "dumb",
        "MY_API_KEY": SECRET,
        "PYTHONDONTWRITEBYTECODE": "1",
    }


async def test_without_a_project_an_agent_works_in_its_run_directory(runs: Bench) -> None:
    seen = await environment_of(runs)

    assert seen["AGOG_WORKTREE"] == seen["AGOG_RUN_DIR"]


async def test_what_python_leaves_beside_sources_is_the_workers_own_choice_if_it_is_named(
    runs: Bench,
) -> None:
    name = "PYTHONDONTWRITEBYTECODE"
    runs.environment = {**HOST, name: ""}
    runs.agents["roy"] = CommandAgent(("env", "-0"), (name,))

    result = await attach(runs.host(), runs.order())

    assert f"{name}=\0" in result.output


async def test_the_files_let_through_cannot_replace_the_contract(runs: Bench) -> None:
    seen = await environment_of(runs, "AGOG_AGENT")

    assert seen["AGOG_AGENT"] == "roy"


async def test_no_secret_is_written_to_the_run_directory(runs: Bench) -> None:
    runs.environment = HOST
    runs.agents["roy"] = CommandAgent(("sh", "-c", 'test -n "$MY_API_KEY"'), ("MY_API_KEY",))
    order = runs.order()

    result = await attach(runs.host(), order)

    assert result.exit_code == 0
    files = [file for file in runs.home.rglob("*") if file.is_file()]
    assert {"order.json", "identity.json", "exit.json"} <= {file.name for file in files}
    assert not [file for file in files if SECRET.encode() in file.read_bytes()]


@pytest.mark.ordinary_user
async def test_a_run_directory_is_for_its_owner_only(runs: Bench) -> None:
    await environment_of(runs)

    run = runs.directory(runs.order())
    assert [stat.S_IMODE(p.stat().st_mode) for p in (run.path, run.records_path)] == [0o700] * 2


async def test_an_agent_inherits_no_descriptor_but_the_standard_three(runs: Bench) -> None:
    result = await runs.run("ls -1 /proc/self/fd")

    # The fourth is the directory that `ls` reads.
    assert result.output.split() == ["0", "1", "2", "3"]
