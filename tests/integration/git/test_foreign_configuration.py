"""Tools in a clone must not find the configuration of the tree that the state directory is in."""

import subprocess
import sys
from pathlib import Path

import pytest

from adapters.git import GitWorkspaces
from tests.fixtures_workspaces import NUMBER, GitProject, stage_request

OURS = """
[tool.pytest.ini_options]
addopts = "--strict-config"
no_such_option = "x"
[tool.ruff.lint]
ignore = ["F401"]
"""
LIBRARY = {
    "pyproject.toml": '[project]\nname = "tally"\nversion = "1"\n',
    "test_sum.py": "import os\n\n\ndef test_sum() -> None:\n    assert 1 + 1 == 2\n",
}


def ran(argv: list[str], place: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv, cwd=place, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("tool", "code", "words"),
    [(("pytest", "-q"), 0, "1 passed"), (("ruff", "check"), 1, "`os` imported but unused")],
)
async def test_a_tool_does_not_look_above_the_state_directory(
    git_project: GitProject, tmp_path: Path, tool: tuple[str, ...], code: int, words: str
) -> None:
    (tmp_path / "pyproject.toml").write_text(OURS)
    git_project.commit(LIBRARY)
    workspaces = GitWorkspaces(git_project.root, tmp_path / "home")
    head, _ = await workspaces.open(NUMBER)
    clone = await workspaces.prepare(stage_request(head))

    said = ran([sys.executable, "-m", *tool], clone)

    assert said.returncode == code, said.stdout + said.stderr
    assert words in said.stdout
