"""`run`: one command from a file to a result, with servers of its own where none run."""

import signal
from pathlib import Path

import pytest

from adapters.local_stack.state import read_stack
from tests.e2e.conftest import STARTER, Cli, plan_of
from tests.eventually import PATIENCE_SECONDS
from tests.ports import own_port
from tests.prefork import Program
from tests.stack_usage import keep_own_ports, processes_naming

AGENTS = '[defaults]\nkind = "simulated"\n[simulation]\nminute_seconds = 0.002\n'
NEVER = f"{AGENTS}[agents.cynthia]\nminutes = 40_000\n"


@pytest.fixture
def cli(bare_cli: Cli, tmp_path: Path) -> Cli:
    home, plan = tmp_path / "home", tmp_path / "plan.toml"
    keep_own_ports(home)
    plan.write_text(plan_of(("Research", "cynthia")))
    (tmp_path / "login.md").write_text("# Log in by e-mail\n\nIn full.\n")
    (tmp_path / "agents.toml").write_text(AGENTS)
    environment = {
        "AGOG_HOME": str(home),
        "AGOG_AGENTS_FILE": str(tmp_path / "agents.toml"),
        "AGOG_PIPELINE": str(plan),
        "AGOG_HEALTH_PORT": str(own_port()),
        "AGOG_HOST": "runs",
    }
    return Cli({**bare_cli.environment, **environment}, tmp_path)


def interrupted(process: Program, once_it_says: str) -> str:
    """What a command says from then on, interrupted as by Ctrl-C."""
    assert process.stderr
    said = ""
    while once_it_says not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130, rest
    return said + rest


def test_run_takes_a_file_to_its_result_and_leaves_nothing_running(
    cli: Cli, tmp_path: Path
) -> None:
    first = cli("run", str(tmp_path / "login.md"))
    second = cli("run", str(tmp_path / "login.md"))

    assert (first.code, first.out) == (0, "REQ-login DELIVERED\n"), first.err
    assert (second.code, second.out) == (0, "REQ-login-2 DELIVERED\n"), second.err
    assert "Log in by e-mail" in first.err
    assert first.err.splitlines()[-1].startswith("Servers and worker stopped.")
    assert first.err.endswith(f"{STARTER} up\n")
    assert processes_naming(str(tmp_path)) == []


def test_run_detaches_and_is_joined_again_on_the_servers_that_run(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "agents.toml").write_text(NEVER)
    command = ("run", str(tmp_path / "login.md"), "--req", "REQ-7")

    with cli.open(*command) as process:
        said = interrupted(process, "Research (cynthia) running")
    assert read_stack(tmp_path / "home")
    with cli.open(*command) as process:
        again = interrupted(process, "Research (cynthia) running")
    assert f"{STARTER} watch REQ-7" in said
    assert "REQ-7: joined." in again
    assert "Starting" not in again
    cancelled = cli("cancel", "REQ-7")

    assert f"end them: {STARTER} down" in said
    assert cancelled.code == 0, cancelled.err
    assert cli(*command).code == 5
    ended, once_more = cli("down"), cli("down")
    assert (ended.code, ended.err) == (0, "Stopped.\n")
    assert processes_naming(str(tmp_path)) == []
    assert (once_more.code, once_more.err) == (0, f"Nothing of `up` runs on {tmp_path}/home.\n")


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        (" \n", (), "is empty"),
        ("x" * 501, (), "501 characters"),
        ("Title", ("--req", "7"), "not of the form"),
        ("Title", ("--pipeline", "nope"), "Unknown pipeline"),
    ],
)
def test_run_refuses_before_it_starts_anything(
    cli: Cli, tmp_path: Path, text: str, options: tuple[str, ...], reason: str
) -> None:
    (tmp_path / "login.md").write_text(text)

    said = cli("run", str(tmp_path / "login.md"), *options)

    assert said.code == 2
    assert reason in said.err
    assert not (tmp_path / "home" / "logs" / "up.log").exists()
