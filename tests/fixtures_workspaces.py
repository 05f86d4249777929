"""A real git project to work on, and requests to work with."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.git import GitWorkspaces
from adapters.git.store import Store
from adapters.locks import Locks
from pipeline.model import Head, Priority, RequirementRef, Stage, StageRequest

NUMBER = "REQ-1"
HOUSE = Path(__file__).resolve().parent.parent
"""Where a subprocess finds our packages."""


@dataclass(frozen=True)
class GitProject:
    """A repository with a work tree, driven the way its user would."""

    root: Path

    def git(
        self,
        *arguments: str,
        at: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> str:
        identity = ("-c", "user.name=User", "-c", "user.email=user@example.invalid")
        finished = subprocess.run(
            ["git", *identity, *arguments],
            cwd=at or self.root,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            errors="surrogateescape",
        )
        return finished.stdout.strip()

    def init(self) -> "GitProject":
        self.root.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        return self

    def shell(self, command: str) -> None:
        subprocess.run(command, shell=True, check=True, cwd=self.root)

    def commit(self, files: Mapping[str, str], message: str = "change") -> str:
        write(self.root, files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def files(self, revision: str) -> list[str]:
        return self.git("ls-tree", "-r", "--name-only", revision).splitlines()

    def text(self, revision: str, name: str) -> str:
        return self.git("show", f"{revision}:{name}")

    def state(self) -> tuple[str, str, str]:
        """What must not change before a delivery: branches, HEAD and the checkout."""
        return (
            self.git("for-each-ref", "refs/heads/main"),
            self.git("symbolic-ref", "HEAD"),
            self.git("status", "--porcelain"),
        )


def write(directory: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def exists(path: str | Path) -> bool:
    return Path(path).exists()


def stage_request(
    head: Head | None,
    name: str = "Backend Implementation",
    *,
    agent: str = "roy",
    attempt: int = 1,
    number: str = NUMBER,
) -> StageRequest:
    stage = Stage(
        name=name,
        agent=agent,
        group="Implementation",
        needs=(),
        minutes=1,
        deadline=timedelta(minutes=2),
        grace=timedelta(minutes=1),
    )
    ref = RequirementRef(number, "run-1")
    return StageRequest(ref, Priority.P2, stage, attempt, head, remaining_minutes=1)


@pytest.fixture
def git_project(tmp_path: Path) -> GitProject:
    project = GitProject(tmp_path / "my project").init()
    project.commit({"readme.md": "hello\n", "shared.txt": "one\n", ".gitignore": "node_modules/\n"})
    return project


@pytest.fixture
def state_home(tmp_path: Path) -> Path:
    return tmp_path / "state home"


@pytest.fixture
def store(git_project: GitProject, state_home: Path) -> GitProject:
    """Our own repository of the project: made when the first requirement opens."""
    return store_of(git_project, state_home)


def store_of(project: GitProject, home: Path) -> GitProject:
    locks = Locks(home / "locks")
    return GitProject(Store.of_project(home.resolve(), project.root, locks, {}).path)


@pytest.fixture
def workspaces(git_project: GitProject, state_home: Path) -> GitWorkspaces:
    return GitWorkspaces(git_project.root, state_home)
