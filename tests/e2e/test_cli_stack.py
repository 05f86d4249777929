import json
import signal
from pathlib import Path

from tests.e2e.conftest import Cli, Said, until, write_agents
from tests.eventually import PATIENCE_SECONDS
from tests.stack_usage import processes_naming


def test_up_runs_everything_until_it_is_told_to_stop(bare_cli: Cli, tmp_path: Path) -> None:
    agents, home = tmp_path / "agents.toml", tmp_path / "home"
    write_agents(agents, {})
    cli = Cli(
        {**bare_cli.environment, "AGOG_HOME": str(home), "AGOG_AGENTS_FILE": str(agents)}, tmp_path
    )
    with cli.open("up") as up:
        until(lambda: is_up(home) or up.poll() is not None, "a stack")
        until(lambda: cli("doctor").code == 0, "a worker")  # found by stack.json alone

        delivered = cli("start", "REQ-UP-1", "--title", "x", "--wait")
        second = cli("up")

        up.send_signal(signal.SIGINT)
        out, err = up.communicate(timeout=PATIENCE_SECONDS)
    assert delivered.code == 0, delivered.err
    addresses = json.loads((home / "stack.json").read_text())
    assert second.code == 2
    assert "A stack already runs" in second.err
    assert f"http://127.0.0.1:{addresses['ports']['web_ui']}" in second.err
    assert up.returncode == 0, err
    assert f"http://127.0.0.1:{addresses['ports']['web_ui']}" in out
    assert err.endswith("Stopped.\n")
    assert addresses["settings"] == {}
    assert processes_naming(str(tmp_path)) == []
    assert cli("status", "REQ-UP-1").code == 6


def is_up(home: Path) -> bool:
    file = home / "stack.json"
    return file.exists() and bool(json.loads(file.read_text())["settings"])


def test_up_refuses_without_an_agents_file_before_it_starts_anything(
    bare_cli: Cli, tmp_path: Path
) -> None:
    home = tmp_path / "home"

    said: Said = bare_cli("up", AGOG_HOME=str(home), AGOG_AGENTS_FILE=str(tmp_path / "absent"))

    assert said.code == 2
    assert "set AGOG_AGENTS_FILE" in said.err
    assert not home.exists()
