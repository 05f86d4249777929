"""`rehearse`: the real builds on a clone, before anything is paid."""

import re
import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import Cli
from tests.fixtures_workspaces import GitProject
from tests.stack_usage import processes_naming

BUILD = """
[defaults]
kind = "claude-code"
program = "/never/started"

[builds.backend]
directory = "."
prepare = ["sh", "-c", "echo prepared > prepared.txt"]
command = ["sh", "-c", "test -e prepared.txt && {check}"]
"""


@pytest.fixture
def project(tmp_path: Path) -> GitProject:
    made = GitProject(tmp_path / "project").init()
    made.commit({"greeting.txt": "hello\n"})
    return made


@pytest.fixture
def cli(bare_cli: Cli, project: GitProject, tmp_path: Path) -> Cli:
    environment = {
        "AGOG_AGENTS_FILE": str(tmp_path / "agents.toml"),
        "AGOG_PIPELINE": "one-sided",
        "AGOG_HOME": str(tmp_path / "home"),
        "PROJECT_ROOT": str(project.root),
        "TMPDIR": str(tmp_path),
    }
    return Cli({**bare_cli.environment, **environment}, tmp_path)


def test_a_rehearsal_delivers_a_clone_and_leaves_the_project_alone(
    cli: Cli, project: GitProject, tmp_path: Path
) -> None:
    (tmp_path / "agents.toml").write_text(BUILD.replace("{check}", "cat greeting.txt"))
    before = project.git("for-each-ref") + project.git("status", "--porcelain")

    said = cli("rehearse")

    assert said.code == 0, said.err
    assert "build backend" in said.err
    assert said.err.endswith("The rehearsal was delivered: prepare and builds work.\n")
    assert "starter.py" not in said.err  # its servers are gone
    assert project.git("for-each-ref") + project.git("status", "--porcelain") == before
    assert list(tmp_path.glob("agog-rehearsal-*")) == []
    assert not (tmp_path / "home").exists()
    assert processes_naming(str(tmp_path)) == []


def test_a_wrong_build_command_shows_before_the_first_cent(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "agents.toml").write_text(BUILD.replace("{check}", "npm-run-bulid"))

    said = cli("rehearse")

    assert said.code == 1, said.err
    assert "npm-run-bulid" in said.err
    assert "exited with 127" in said.err
    assert "starter.py" not in said.err
    assert f"mend {tmp_path / 'agents.toml'}" in said.err
    (log,) = re.findall(r"Logs of the builds: (\S+)", said.err)
    assert any("npm-run-bulid" in each.read_text() for each in Path(log).rglob("*.log"))
    assert processes_naming(str(tmp_path)) == []
    shutil.rmtree(Path(log).parents[1])


def test_a_rehearsal_needs_a_build(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "agents.toml").write_text('[defaults]\nkind = "simulated"\n')

    said = cli("rehearse")

    assert said.code == 2
    assert "no build that is a program" in said.err
