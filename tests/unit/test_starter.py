"""`starter.py` by a Python that lacks our packages, as on the day after `git clone`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

STARTER = Path(__file__).parent.parent.parent / "starter.py"


@pytest.fixture
def starter(tmp_path: Path) -> Path:
    return Path(shutil.copy(STARTER, tmp_path))


def started(starter: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """What it says to a Python without any site-packages, in another directory."""
    argv = [sys.executable, "-S", str(starter), *arguments]
    return subprocess.run(argv, cwd="/", capture_output=True, text=True, check=False)


def test_a_python_without_packages_starts_that_of_the_virtual_environment(starter: Path) -> None:
    python = starter.parent / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s|" "$@"\nexit 4\n')
    python.chmod(0o755)
    (starter.parent / ".venv" / "pyvenv.cfg").touch()

    said = started(starter, "run", "my file.md")

    assert (said.returncode, said.stderr) == (4, "")
    assert said.stdout == f"{starter}|run|my file.md|"


def test_without_a_virtual_environment_it_says_how_to_make_one(starter: Path) -> None:
    said = started(starter, "init")

    assert said.returncode == 2
    assert said.stderr == (
        f"Error: {sys.executable} lacks what the orchestrator needs: No module named 'cli'."
        f" Install it once: make -C {starter.parent} setup\n"
    )
