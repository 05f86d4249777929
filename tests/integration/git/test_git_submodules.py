"""Submodules: their new commits travel like the project's, or the stage is red."""

import shutil
from pathlib import Path

import pytest

from adapters.git import GitWorkspaces
from adapters.git.clone import CheckedOut, Clone, checked_out
from adapters.git.prepared_files import note_prepared
from adapters.git.project import check_project
from adapters.locks import Locks
from pipeline.errors import ProjectRefused
from tests.fixtures_workspaces import NUMBER, GitProject, exists, stage_request, write

ALLOW = ("-c", "protocol.file.allow=always")


@pytest.fixture
def library(git_project: GitProject) -> GitProject:
    """What the project has as its submodule `vendor`."""
    library = GitProject(git_project.root.parent / "library").init()
    library.commit({"lib.c": "int x;\n"})
    git_project.git(*ALLOW, "submodule", "--quiet", "add", str(library.root), "vendor")
    git_project.git("commit", "--quiet", "--message", "add a submodule")
    return library


@pytest.fixture
async def clone(workspaces: GitWorkspaces, library: GitProject) -> GitProject:
    head, _ = await workspaces.open(NUMBER)
    return GitProject(Path(await workspaces.prepare(stage_request(head))))


async def test_submodule_of_the_user_is_there_for_agents_and_builds(
    workspaces: GitWorkspaces, store: GitProject, clone: GitProject, library: GitProject
) -> None:
    head = await workspaces.head(NUMBER)
    build = Path(await workspaces.checkout_build(NUMBER, "backend", head.commit, clean=True))
    assert (clone.root / "vendor/lib.c").read_text() == "int x;\n"
    assert (build / "vendor/lib.c").read_text() == "int x;\n"
    assert clone.git("submodule", "status").startswith(library.git("rev-parse", "HEAD"))
    write(clone.root, {"app.c": "int y;\n"})

    result = await workspaces.integrate(stage_request(head), "done")

    assert store.git("rev-parse", f"{result.commit}:vendor") == library.git("rev-parse", "HEAD")
    assert "app.c" in store.files(result.commit)
    assert result.remarks == ()


@pytest.mark.parametrize("deed", ["committed", "committed in both", "left uncommitted"])
async def test_new_commits_of_a_submodule_arrive_with_the_delivery(
    workspaces: GitWorkspaces, git_project: GitProject, clone: GitProject, deed: str
) -> None:
    vendor = GitProject(clone.root / "vendor")
    write(vendor.root, {"lib.c": "int better;\n", "new.c": "int n;\n"})
    if deed != "left uncommitted":
        vendor.commit({}, "better")
    if deed == "committed in both":
        clone.git("add", "vendor")
        clone.git("commit", "--quiet", "--message", "new pointer")
    head = await workspaces.head(NUMBER)

    result = await workspaces.integrate(stage_request(head), "done")
    build = Path(await workspaces.checkout_build(NUMBER, "backend", result.head.commit, clean=True))

    assert result.refusal == ""
    assert (build / "vendor/lib.c").read_text() == "int better;\n"
    assert await workspaces.swap_target(NUMBER, "main", result.head.commit)
    assert (git_project.root / "vendor/lib.c").read_text() == "int x;\n"  # the user's to update
    git_project.git("submodule", "--quiet", "update")
    assert (git_project.root / "vendor/lib.c").read_text() == "int better;\n"
    assert exists(git_project.root / "vendor/new.c")


async def test_submodule_at_its_old_commit_is_no_change_of_the_user(
    workspaces: GitWorkspaces, git_project: GitProject, clone: GitProject
) -> None:
    GitProject(clone.root / "vendor").commit({"lib.c": "int better;\n"})
    result = await workspaces.integrate(stage_request(await workspaces.head(NUMBER)), "done")
    await workspaces.swap_target(NUMBER, "main", result.head.commit)
    assert git_project.git("status", "--porcelain") != ""

    assert (await check_project(git_project.root)).branch == "main"
    head, _ = await workspaces.open("REQ-2")
    later = stage_request(head, number="REQ-2")
    write(Path(await workspaces.prepare(later)), {"app.c": "int y;\n"})
    tip = (await workspaces.integrate(later, "done")).head
    assert await workspaces.swap_target("REQ-2", "main", tip.commit)


@pytest.fixture
def uninitialised(git_project: GitProject, library: GitProject, tmp_path: Path) -> GitProject:
    """The user's checkout as `git clone` alone leaves it."""
    copy = GitProject(tmp_path / "copy")
    git_project.git("clone", "--quiet", str(git_project.root), str(copy.root))
    return copy


async def test_files_in_a_submodule_that_is_not_initialised_are_red_and_kept(
    uninitialised: GitProject, tmp_path: Path
) -> None:
    workspaces = GitWorkspaces(uninitialised.root, tmp_path / "home")
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    clone = Path(await workspaces.prepare(request))
    write(clone, {"vendor/src/new.txt": "work\n", "app.c": "int y;\n"})

    result = await workspaces.integrate(request, "done")

    assert "vendor is a submodule that is not initialised" in result.refusal
    assert result.head == head
    store = GitProject(next((tmp_path / "home/repositories").glob("*.git")))
    assert store.text(await workspaces.keep(request), "vendor/src/new.txt") == "work"


async def test_commit_of_a_submodule_that_the_user_cannot_reach_is_red_and_kept(
    uninitialised: GitProject, tmp_path: Path
) -> None:
    """The agent has initialised it by itself: its new commit would exist nowhere else."""
    workspaces = GitWorkspaces(uninitialised.root, tmp_path / "home")
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    clone = GitProject(Path(await workspaces.prepare(request)))
    clone.git(*ALLOW, "submodule", "--quiet", "update", "--init", "vendor")
    commit = GitProject(clone.root / "vendor").commit({"lib.c": "int better;\n"})
    clone.git("add", "vendor")
    clone.git("commit", "--quiet", "--message", "new pointer")

    result = await workspaces.integrate(request, "done")

    assert f"vendor points to {commit[:10]}" in result.refusal
    assert "git submodule update --init" in result.refusal
    module = next((tmp_path / "home/repositories").glob("*.git/modules/*"))
    assert GitProject(module).text(commit, "lib.c") == "int better;"


async def test_submodule_that_an_agent_adds_from_its_remote_is_taken(
    workspaces: GitWorkspaces, git_project: GitProject, store: GitProject, tmp_path: Path
) -> None:
    other = GitProject(tmp_path / "other").init()
    pinned = other.commit({"o.c": "int o;\n"})
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    clone = GitProject(Path(await workspaces.prepare(request)))
    clone.git(*ALLOW, "submodule", "--quiet", "add", str(other.root), "third")

    result = await workspaces.integrate(request, "done")

    assert result.refusal == ""
    assert store.git("rev-parse", f"{result.commit}:third") == pinned
    assert ".gitmodules" in store.files(result.commit)


@pytest.mark.parametrize("url", ["$PWD/lib", "$PWD/.git/lib", "./lib"])
async def test_submodule_whose_remote_lies_in_the_clone_is_red(
    workspaces: GitWorkspaces, clone: GitProject, url: str
) -> None:
    """Nobody could fetch it once the clone is gone."""
    place = "lib" if url == "./lib" else url.replace("$PWD/", "")
    GitProject(clone.root / place).init().commit({"f.c": "int f;\n"})
    origin = url.replace("$PWD", str(clone.root))
    clone.git(*ALLOW, "submodule", "--quiet", "add", origin, "third")
    clone.git("commit", "--quiet", "--message", "add it")
    head = await workspaces.head(NUMBER)

    result = await workspaces.integrate(stage_request(head), "done")

    assert "third" in result.refusal


async def test_submodule_that_an_agent_moves_is_moved(
    workspaces: GitWorkspaces, store: GitProject, clone: GitProject, library: GitProject
) -> None:
    clone.git("mv", "vendor", "third")
    clone.git("commit", "--quiet", "--message", "moved")
    head = await workspaces.head(NUMBER)

    result = await workspaces.integrate(stage_request(head), "done")
    build = Path(await workspaces.checkout_build(NUMBER, "backend", result.head.commit, clean=True))

    assert result.refusal == ""
    assert store.git("rev-parse", f"{result.commit}:third") == library.git("rev-parse", "HEAD")
    assert exists(build / "third/lib.c")


async def test_commit_in_a_submodule_that_an_agent_has_moved_is_delivered(
    workspaces: GitWorkspaces, git_project: GitProject, clone: GitProject
) -> None:
    clone.git("mv", "vendor", "third")
    better = GitProject(clone.root / "third").commit({"lib.c": "int better;\n"})
    result = await workspaces.integrate(stage_request(await workspaces.head(NUMBER)), "done")

    assert result.refusal == ""
    assert await workspaces.swap_target(NUMBER, "main", result.head.commit)
    git_project.git(*ALLOW, "submodule", "--quiet", "update", "--init")
    assert git_project.git("-C", "third", "rev-parse", "HEAD") == better


async def test_submodule_that_an_agent_replaces_by_its_files_is_replaced(
    workspaces: GitWorkspaces, store: GitProject, clone: GitProject
) -> None:
    text = (clone.root / "vendor/lib.c").read_text()
    clone.git("rm", "--quiet", "--force", "vendor")
    write(clone.root, {"vendor/lib.c": text, "vendor/more.c": "int m;\n"})
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "--message", "vendored")
    head = await workspaces.head(NUMBER)

    result = await workspaces.integrate(stage_request(head), "done")

    assert result.refusal == ""
    assert {"vendor/lib.c", "vendor/more.c"} <= set(store.files(result.head.commit))


async def test_what_an_agent_has_fetched_of_a_submodule_binds_nobody_later(
    uninitialised: GitProject, library: GitProject, tmp_path: Path
) -> None:
    """The user has not initialised it; its pointer moves on upstream."""
    workspaces = GitWorkspaces(uninitialised.root, tmp_path / "home")
    head, _ = await workspaces.open(NUMBER)
    first = GitProject(Path(await workspaces.prepare(stage_request(head))))
    first.git(*ALLOW, "submodule", "--quiet", "update", "--init")
    write(first.root, {"new": "n\n"})
    result = await workspaces.integrate(stage_request(head), "done")
    assert result.refusal == ""
    assert await workspaces.swap_target(NUMBER, "main", result.head.commit)
    moved = library.commit({"lib.c": "int z;\n"})
    uninitialised.git("update-index", "--cacheinfo", f"160000,{moved},vendor")
    uninitialised.git("commit", "--quiet", "--message", "upstream has moved")

    head, _ = await workspaces.open("REQ-2")
    clone = Path(await workspaces.prepare(stage_request(head, number="REQ-2")))

    assert not any((clone / "vendor").iterdir())


async def test_submodule_that_an_agent_removes_is_removed(
    workspaces: GitWorkspaces, store: GitProject, clone: GitProject
) -> None:
    clone.git("rm", "--quiet", "--force", "vendor")
    shutil.rmtree(clone.root / "vendor", ignore_errors=True)

    result = await workspaces.integrate(stage_request(await workspaces.head(NUMBER)), "done")

    assert "vendor" not in store.files(result.commit)


async def test_submodule_of_a_submodule_travels_too(
    git_project: GitProject, library: GitProject, tmp_path: Path
) -> None:
    deep = GitProject(tmp_path / "deep").init()
    deep.commit({"deep.c": "int d;\n"})
    vendor = GitProject(git_project.root / "vendor")
    vendor.git(*ALLOW, "submodule", "--quiet", "add", str(deep.root), "deep")
    vendor.commit({}, "add deep")
    git_project.commit({}, "with deep")
    workspaces = GitWorkspaces(git_project.root, tmp_path / "home")
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    clone = Path(await workspaces.prepare(request))
    write(clone, {"vendor/deep/deep.c": "int deeper;\n"})

    result = await workspaces.integrate(request, "done")

    assert result.refusal == ""
    assert await workspaces.swap_target(NUMBER, "main", result.head.commit)
    git_project.git(*ALLOW, "submodule", "--quiet", "update", "--recursive")
    assert (git_project.root / "vendor/deep/deep.c").read_text() == "int deeper;\n"


@pytest.mark.parametrize(
    "gone",
    [
        "git submodule --quiet deinit --force vendor",
        "git -c submodule.recurse=true checkout --quiet HEAD~1",
    ],
)
async def test_new_commit_reaches_a_submodule_that_is_not_checked_out_any_more(
    workspaces: GitWorkspaces, git_project: GitProject, clone: GitProject, gone: str
) -> None:
    better = GitProject(clone.root / "vendor").commit({"lib.c": "int better;\n"})
    result = await workspaces.integrate(stage_request(await workspaces.head(NUMBER)), "done")
    git_project.shell(gone)

    assert await workspaces.swap_target(NUMBER, "main", result.head.commit)

    git_project.git("checkout", "--quiet", "main")
    git_project.git(*ALLOW, "submodule", "--quiet", "update", "--init")
    assert git_project.git("-C", "vendor", "rev-parse", "HEAD") == better


async def test_new_commit_that_would_be_nowhere_is_not_delivered(
    workspaces: GitWorkspaces, git_project: GitProject, clone: GitProject
) -> None:
    GitProject(clone.root / "vendor").commit({"lib.c": "int better;\n"})
    result = await workspaces.integrate(stage_request(await workspaces.head(NUMBER)), "done")
    git_project.shell("rm -rf vendor/* vendor/.git .git/modules")
    before = git_project.git("rev-parse", "main")

    with pytest.raises(ProjectRefused, match="git submodule update --init -- vendor"):
        await workspaces.swap_target(NUMBER, "main", result.head.commit)

    assert git_project.git("rev-parse", "main") == before


@pytest.mark.parametrize("leave", ["git switch -q -c mine", "true"])
async def test_work_left_elsewhere_in_a_submodule_is_red_where_nothing_else_was_done(
    workspaces: GitWorkspaces, clone: GitProject, leave: str
) -> None:
    vendor = GitProject(clone.root / "vendor")
    start = vendor.git("rev-parse", "HEAD")
    vendor.shell(leave)
    vendor.commit({"lib.c": "int better;\n"})
    vendor.git("checkout", "--quiet", start)

    result = await workspaces.integrate(stage_request(await workspaces.head(NUMBER)), "done")

    assert "vendor/" in result.refusal


def made_of(home: Path, clone: Path) -> tuple[CheckedOut, Clone]:
    found = checked_out(home.resolve(), clone, Locks(home / "locks"))
    assert found
    return found


async def prepare(clone: GitProject, home: Path) -> None:
    """Build the submodule there, as a `prepare` may."""
    made, ours = made_of(home, clone.root)
    clone.shell("echo made >vendor/made.o; echo 'int made;' >>vendor/lib.c")
    await note_prepared(ours, made.commit, (("make",),))


@pytest.mark.parametrize("is_users", [True, False])
async def test_what_prepare_writes_into_a_submodule_is_not_the_agents_work(
    git_project: GitProject, uninitialised: GitProject, tmp_path: Path, is_users: bool
) -> None:
    """Whether the user has it, or `prepare` itself has fetched it."""
    project, home = git_project if is_users else uninitialised, tmp_path / "home"
    workspaces = GitWorkspaces(project.root, home)
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    clone = GitProject(Path(await workspaces.prepare(request)))
    if not is_users:
        clone.git(*ALLOW, "submodule", "--quiet", "update", "--init", "vendor")
    await prepare(clone, home)

    idle = await workspaces.integrate(request, "done")

    assert (idle.changed, idle.refusal, idle.remarks) == (False, "", ())
    assert idle.head == head


async def test_what_an_agent_changes_in_a_prepared_submodule_is_its_work(
    workspaces: GitWorkspaces, store: GitProject, clone: GitProject, state_home: Path
) -> None:
    request = stage_request(await workspaces.head(NUMBER))
    await prepare(clone, state_home)
    write(clone.root, {"vendor/new.c": "int n;\n"})

    result = await workspaces.integrate(request, "done")

    module = GitProject(next(store.root.glob("modules/*")))
    pinned = store.git("rev-parse", f"{result.commit}:vendor")
    assert result.changed
    assert module.files(pinned) == ["lib.c", "new.c"]
    assert module.text(pinned, "lib.c") == "int x;"


async def test_work_in_a_submodule_whose_declaration_is_removed_is_refused_and_kept(
    workspaces: GitWorkspaces, store: GitProject, clone: GitProject
) -> None:
    head = await workspaces.head(NUMBER)
    request = stage_request(head)
    write(clone.root, {"vendor/new.c": "int n;\n"})
    clone.root.joinpath(".gitmodules").unlink()

    result = await workspaces.integrate(request, "done")
    kept = await workspaces.keep(request)

    assert result.refusal.startswith("vendor: new commits of submodules that .gitmodules does not")
    pointers = [store.git("rev-parse", f"{each}:vendor") for each in (head.commit, kept)]
    assert len({*pointers}) == 2


async def test_declaration_that_another_agent_removes_holds_up_the_delivery(
    workspaces: GitWorkspaces, git_project: GitProject, clone: GitProject
) -> None:
    head = await workspaces.head(NUMBER)
    other = stage_request(head, "Frontend Implementation", agent="jen")
    theirs = GitProject(Path(await workspaces.prepare(other)))
    theirs.root.joinpath(".gitmodules").unlink()
    write(clone.root, {"vendor/new.c": "int n;\n"})
    await workspaces.integrate(stage_request(head), "done")
    result = await workspaces.integrate(other, "done")
    before = git_project.git("rev-parse", "main")
    assert (result.refusal, result.conflicts) == ("", ())

    with pytest.raises(ProjectRefused, match="vendor: new commits of submodules"):
        await workspaces.swap_target(NUMBER, "main", result.head.commit)

    assert git_project.git("rev-parse", "main") == before
