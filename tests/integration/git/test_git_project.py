import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.git import GitWorkspaces, check_project
from adapters.git.project import Project
from pipeline.errors import OtherProject, ProjectRefused
from tests.fixtures_workspaces import NUMBER, GitProject, write

Spoil = Callable[[GitProject], Path]


async def test_a_clone_elsewhere_is_the_same_project_and_a_second_one_here_is_not(
    git_project: GitProject, state_home: Path
) -> None:
    project = await Project(git_project.root).identify()
    clone = git_project.root.parent / "clone"
    git_project.git("clone", "--quiet", str(git_project.root), str(clone))
    stranger = GitProject(git_project.root.parent / "stranger").init()
    stranger.commit({"readme.md": "another\n"})
    link = git_project.root.parent / "link"
    link.symlink_to(git_project.root)

    for root, node, is_it in (
        (git_project.root, project.node, True),
        (link, project.node, True),
        (clone, project.node, False),
        (clone, "elsewhere", True),
        (stranger.root, "elsewhere", False),
    ):
        here = GitWorkspaces(root, state_home).check_is(replace(project, node=node))
        if is_it:
            await here
        else:
            with pytest.raises(OtherProject, match="It was started for"):
                await here


def missing(project: GitProject) -> Path:
    return project.root / "nowhere"


def no_repository(project: GitProject) -> Path:
    plain = project.root.parent / "plain"
    plain.mkdir()
    return plain


def no_commit(project: GitProject) -> Path:
    empty = project.root.parent / "empty"
    project.git("init", "--quiet", str(empty))
    return empty


def bare(project: GitProject) -> Path:
    clone = project.root.parent / "bare.git"
    project.git("clone", "--quiet", "--bare", str(project.root), str(clone))
    return clone


def git_directory(project: GitProject) -> Path:
    return project.root / ".git"


def folder(project: GitProject) -> Path:
    write(project.root, {"backend/app.py": ""})
    return project.root / "backend"


def dirty(project: GitProject) -> Path:
    write(project.root, {"shared.txt": "changed\n"})
    return project.root


def staged(project: GitProject) -> Path:
    write(project.root, {"new.txt": "new\n"})
    project.git("add", "new.txt")
    return project.root


def detached(project: GitProject) -> Path:
    project.git("switch", "--quiet", "--detach")
    return project.root


def own_branch(project: GitProject) -> Path:
    project.git("switch", "--quiet", "--create", "agog/REQ-7/main")
    return project.root


def name_taken(project: GitProject) -> Path:
    project.git("branch", "agog")
    return project.root


def latin_file(project: GitProject) -> Path:
    path = Path(os.fsdecode(bytes(project.root) + b"/caf\xe9"))
    path.write_text("x")
    project.git("add", "--all")
    return project.root


def latin_branch(project: GitProject) -> Path:
    project.git("switch", "--quiet", "--create", os.fsdecode(b"caf\xe9"))
    return project.root


def staged_pointer(project: GitProject) -> Path:
    project.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vendor")
    return project.root


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (latin_file, "uncommitted changes \\(caf\ufffd\\)"),
        (latin_branch, "a name that is no UTF-8"),
        (staged_pointer, r"uncommitted changes \(vendor\)"),
        (missing, "is not a directory"),
        (no_repository, "git init"),
        (no_commit, "no commit yet"),
        (bare, "bare"),
        (git_directory, "git directory"),
        (folder, "Set PROJECT_ROOT to its root"),
        (dirty, r"uncommitted changes \(shared.txt\)"),
        (staged, r"uncommitted changes \(new.txt\)"),
        (detached, "detached HEAD"),
        (own_branch, "a branch of the orchestrator"),
        (name_taken, "a branch `agog`"),
    ],
)
async def test_project_is_refused_and_left_as_it_was(
    git_project: GitProject, state_home: Path, spoil: Spoil, reason: str
) -> None:
    root = spoil(git_project)
    before = git_project.git("for-each-ref")

    with pytest.raises(ProjectRefused, match=reason):
        await check_project(root)
    with pytest.raises(ProjectRefused, match=reason):
        await GitWorkspaces(root, state_home).open(NUMBER)

    assert git_project.git("for-each-ref") == before
    assert not (state_home / "clones").exists()


async def test_untracked_files_are_not_dirty(git_project: GitProject) -> None:
    write(git_project.root, {"notes.txt": "mine\n"})

    project = await check_project(git_project.root)

    assert project.branch == "main"
    assert project.commit == git_project.git("rev-parse", "main")


async def test_surrounding_repository_is_not_taken_for_the_project(
    git_project: GitProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the worker was started from a git hook."""
    other = git_project.root.parent / "other"
    git_project.git("init", "--quiet", str(other))
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))

    assert (await check_project(git_project.root)).branch == "main"


@pytest.mark.parametrize("trusts_root", [False, True])
async def test_repository_of_another_user_is_told_at_once_with_the_command_that_helps(
    git_project: GitProject, monkeypatch: pytest.MonkeyPatch, trusts_root: bool
) -> None:
    """Git looks at the work tree where it works in it, at the git directory where it reads it."""
    settings = git_project.root.parent / "settings"
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    root = git_project.root
    if trusts_root:
        git_project.git("config", "--global", "--add", "safe.directory", str(root))
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")

    with pytest.raises(ProjectRefused, match="dubious ownership") as refused:
        await check_project(root)

    commands = re.findall("`(.*?)`", str(refused.value))
    assert len(commands) == (1 if trusts_root else 2)
    for command in commands:
        git_project.shell(command)
    assert (await check_project(root)).branch == "main"


async def test_submodule_that_git_does_not_trust_is_told_at_once(
    git_project: GitProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    git_project.git("init", "--quiet", "--initial-branch=main", "../library")
    GitProject(git_project.root.parent / "library").commit({"lib.c": "int x;\n"})
    allow = ("-c", "protocol.file.allow=always")
    git_project.git(*allow, "submodule", "--quiet", "add", "../library", "vendor")
    git_project.commit({})
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(git_project.root.parent / "settings"))
    for path in (git_project.root, git_project.root / ".git"):
        git_project.git("config", "--global", "--add", "safe.directory", str(path))
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")

    with pytest.raises(ProjectRefused, match=r"dubious ownership.*vendor") as refused:
        await check_project(git_project.root)

    for command in re.findall("`(.*?)`", str(refused.value)):
        git_project.shell(command)
    assert (await check_project(git_project.root)).branch == "main"
