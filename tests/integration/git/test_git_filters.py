"""Filters: programs that git runs on files, where the installation allows them and nowhere else."""

from pathlib import Path

import pytest

from adapters.git import GitWorkspaces, check_project
from pipeline.errors import ProjectRefused
from tests.fixtures_workspaces import (
    NUMBER,
    GitProject,
    exists,
    stage_request,
    store_of,
    write,
)


@pytest.fixture
def filtered(git_project: GitProject) -> GitProject:
    """A project whose `*.up` files are upper case in the repository, lower case on the disk."""
    git_project.git("config", "filter.up.clean", "tr a-z A-Z")
    git_project.git("config", "filter.up.smudge", "tr A-Z a-z")
    git_project.git("config", "filter.up.required", "true")
    git_project.commit({".gitattributes": "*.up filter=up\n", "a.up": "hello\n"})
    return git_project


async def test_filter_that_is_not_allowed_is_told_before_anything_is_done(
    filtered: GitProject, workspaces: GitWorkspaces
) -> None:
    with pytest.raises(ProjectRefused, match="AGOG_GIT_FILTERS=up"):
        await check_project(filtered.root)
    with pytest.raises(ProjectRefused, match="AGOG_GIT_FILTERS=up"):
        await workspaces.open(NUMBER)


async def test_attributes_of_the_target_count_though_another_branch_is_checked_out(
    git_project: GitProject,
) -> None:
    git_project.git("switch", "--quiet", "--create", "next")
    git_project.commit({".gitattributes": "*.txt filter=upper\n"})
    git_project.git("switch", "--quiet", "main")
    git_project.git("config", "filter.upper.clean", "tr a-z A-Z")
    before = sorted((git_project.root / ".git").iterdir())

    assert (await check_project(git_project.root)).branch == "main"
    with pytest.raises(ProjectRefused, match="AGOG_GIT_FILTERS=upper"):
        await check_project(git_project.root, target="next")

    assert sorted((git_project.root / ".git").iterdir()) == before


async def test_filter_that_is_allowed_works_on_every_way(
    filtered: GitProject, state_home: Path
) -> None:
    workspaces = GitWorkspaces(filtered.root, state_home, ("up",))
    head, target = await workspaces.open(NUMBER)
    request = stage_request(head)
    clone = Path(await workspaces.prepare(request))
    assert (clone / "a.up").read_text() == "hello\n"
    write(clone, {"b.up": "world\n"})

    result = await workspaces.integrate(request, "done")
    build = Path(await workspaces.checkout_build(NUMBER, "backend", result.head.commit, clean=True))
    assert await workspaces.swap_target(NUMBER, target, result.head.commit)

    assert filtered.text("main", "b.up") == "WORLD"
    assert (build / "b.up").read_text() == "world\n"
    assert (filtered.root / "b.up").read_text() == "world\n"
    assert filtered.git("status", "--porcelain") == ""


async def test_filter_of_the_user_is_nobodys_business_until_a_file_asks_for_it(
    git_project: GitProject, workspaces: GitWorkspaces
) -> None:
    """`git lfs install` defines one for every repository of a user."""
    git_project.git("config", "filter.lfs.clean", "no-such-program")
    git_project.git("config", "filter.lfs.required", "true")
    head, target = await workspaces.open(NUMBER)
    first, second = stage_request(head, "First"), stage_request(head, "Second")
    write(Path(await workspaces.prepare(first)), {"a": "a\n"})
    asks = {".gitattributes": "* filter=lfs\n", "b": "b\n"}
    write(Path(await workspaces.prepare(second)), asks)

    plain = await workspaces.integrate(first, "done")
    asking = await workspaces.integrate(second, "done")

    assert plain.refusal == ""
    assert "AGOG_GIT_FILTERS=lfs" in asking.refusal
    assert await workspaces.swap_target(NUMBER, target, plain.head.commit)


async def test_new_worker_runs_the_filters_that_are_allowed(
    filtered: GitProject, state_home: Path
) -> None:
    head, _ = await GitWorkspaces(filtered.root, state_home, ("up",)).open(NUMBER)
    request = stage_request(head)
    later = GitWorkspaces(filtered.root, state_home, ("up",))

    clone = Path(await later.prepare(request))
    write(clone, {"b.up": "world\n"})
    result = await GitWorkspaces(filtered.root, state_home, ("up",)).integrate(request, "done")

    store = store_of(filtered, state_home)
    assert store.text(result.commit, "b.up") == "WORLD"


async def test_filter_that_is_not_allowed_does_not_run_at_the_opening_either(
    filtered: GitProject, workspaces: GitWorkspaces, tmp_path: Path
) -> None:
    filtered.git("config", "filter.up.clean", f"touch '{tmp_path}/ran'; cat")
    write(filtered.root, {"a.up": "changed\n"})

    with pytest.raises(ProjectRefused, match="AGOG_GIT_FILTERS=up"):
        await workspaces.open(NUMBER)

    assert not exists(tmp_path / "ran")


async def test_allowed_filter_whose_program_fails_is_the_agents_red_gate(
    filtered: GitProject, state_home: Path
) -> None:
    workspaces = GitWorkspaces(filtered.root, state_home, ("up",))
    filtered.git("config", "filter.up.clean", "bash -c 'set -o pipefail; grep -v bad | tr a-z A-Z'")
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    write(Path(await workspaces.prepare(request)), {"b.up": "bad\n", "c.txt": "c\n"})

    result = await workspaces.integrate(request, "done")

    assert "b.up" in result.refusal
    assert "filter" in result.refusal


async def test_allowed_filter_that_nobody_has_defined_is_refused(
    git_project: GitProject, state_home: Path
) -> None:
    with pytest.raises(ProjectRefused, match="git lfs install"):
        await GitWorkspaces(git_project.root, state_home, ("nowhere",)).open(NUMBER)
