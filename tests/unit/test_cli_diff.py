import subprocess
from pathlib import Path

import pytest
import typer

from adapters.git.command import Git
from cli import diff as module


def test_a_stage_without_a_change_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    by = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    commit = ("commit", "-q", "--allow-empty", "-m", "start")
    subprocess.run(["git", "-C", tmp_path, *by, *commit], check=True)

    async def nothing(*_: object) -> module.Change:
        return module.Change(Git.ours(tmp_path / ".git"), "HEAD", "HEAD")

    monkeypatch.setattr(module, "_find", nothing)
    with pytest.raises(typer.Exit) as end:
        module.diff("REQ-1", "jen")

    said = capfd.readouterr()
    assert (end.value.exit_code, said.out) == (0, "")
    assert said.err == "Nothing was changed.\n"
