"""No agent's git, setting or file decides what our own git does: to it, or to the user."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from adapters.git import GitWorkspaces
from pipeline.errors import ProjectRefused
from pipeline.model import MergeResult, StageRequest
from tests.fixtures_workspaces import NUMBER, GitProject, exists, stage_request, store_of, write


@pytest.fixture
async def at_work(workspaces: GitWorkspaces) -> StageRequest:
    head, _ = await workspaces.open(NUMBER)
    return stage_request(head)


@pytest.fixture
async def clone(workspaces: GitWorkspaces, at_work: StageRequest) -> GitProject:
    return GitProject(Path(await workspaces.prepare(at_work)))


async def test_clone_has_the_projects_branches_and_tags_and_no_remote(
    workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    git_project.git("branch", "feature/x")
    git_project.git("tag", "v1")
    git_project.git("tag", "--annotate", "--message", "two", "v2")
    git_project.git("config", "core.pager", "false")
    head, _ = await workspaces.open(NUMBER)

    clone = GitProject(Path(await workspaces.prepare(stage_request(head))))

    branches = clone.git("for-each-ref", "--format=%(refname:short)", "refs/heads").splitlines()
    assert branches == [f"agog/{NUMBER}/backend-implementation-1", "feature/x", "main"]
    assert clone.git("describe", "--tags") == "v2"
    assert clone.git("status", "--porcelain", "--branch").startswith("## agog/")
    assert clone.git("remote") == ""
    assert "pager" not in clone.git("config", "--local", "--list")


async def test_clone_takes_no_place_for_history(git_project: GitProject, state_home: Path) -> None:
    noise = "".join(f"{n * 7919 % 104729}\n" for n in range(200_000))
    git_project.commit({"large.txt": noise})
    git_project.git("rm", "--quiet", "large.txt")
    git_project.git("commit", "--quiet", "--message", "gone")
    workspaces = GitWorkspaces(git_project.root, state_home)
    head, _ = await workspaces.open(NUMBER)

    clone = Path(await workspaces.prepare(stage_request(head)))

    objects = (clone / ".git" / "objects").rglob("*")
    assert [path.name for path in objects if path.is_file()] == ["alternates"]


async def test_stage_sees_the_whole_commit_whatever_the_users_checkout_shows(
    workspaces: GitWorkspaces, git_project: GitProject, store: GitProject
) -> None:
    git_project.commit({"docs/a.txt": "a\n", "backend/app.py": "b\n"})
    git_project.git("sparse-checkout", "set", "backend")
    head, target = await workspaces.open(NUMBER)
    request = stage_request(head)
    clone = Path(await workspaces.prepare(request))
    assert exists(clone / "docs/a.txt")
    write(clone, {"docs/a.txt": "edited\n", "docs/new.txt": "n\n", "backend/n.txt": "n\n"})

    result = await workspaces.integrate(request, "done")
    build = Path(await workspaces.checkout_build(NUMBER, "backend", result.head.commit, clean=True))

    assert store.text(result.commit, "docs/a.txt") == "edited"
    assert {"docs/new.txt", "backend/n.txt"} <= set(store.files(result.commit))
    assert exists(build / "docs/new.txt")
    assert await workspaces.swap_target(NUMBER, target, result.head.commit)
    assert git_project.git("status", "--porcelain") == ""
    assert git_project.text("main", "docs/new.txt") == "n"


async def test_cone_of_an_agent_deletes_nothing(
    workspaces: GitWorkspaces, git_project: GitProject, store: GitProject
) -> None:
    git_project.commit({"docs/a.txt": "a\n", "backend/app.py": "b\n"})
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    clone = GitProject(Path(await workspaces.prepare(request)))
    clone.git("sparse-checkout", "set", "backend")
    assert not exists(clone.root / "docs")
    write(clone.root, {"backend/app.py": "better\n"})

    result = await workspaces.integrate(request, "done")

    assert store.text(result.commit, "docs/a.txt") == "a"
    assert store.text(result.commit, "backend/app.py") == "better"


@pytest.mark.parametrize("is_readable", [True, False])
async def test_what_was_staged_and_then_hidden_is_taken_or_refused_by_name(
    workspaces: GitWorkspaces,
    at_work: StageRequest,
    clone: GitProject,
    store: GitProject,
    *,
    is_readable: bool,
) -> None:
    """A sparse cone takes a staged file off the disk: its content stands in the index alone."""
    write(clone.root, {"deep/new.txt": "new\n", "docs/a.txt": "a\n"})
    clone.git("add", "deep/new.txt")
    blob = clone.git("rev-parse", ":deep/new.txt")
    clone.git("sparse-checkout", "set", "docs")
    assert not exists(clone.root / "deep/new.txt")
    if not is_readable:
        (clone.root / ".git" / "objects" / blob[:2] / blob[2:]).unlink()

    merge = await workspaces.integrate(at_work, "done")

    if is_readable:
        assert store.text(merge.head.commit, "deep/new.txt") == "new"
    else:
        assert "deep/new.txt" in merge.refusal


async def test_only_ignore_files_of_the_commit_leave_something_out(
    workspaces: GitWorkspaces, store: GitProject, at_work: StageRequest, clone: GitProject
) -> None:
    (clone.root / ".git/info").mkdir(exist_ok=True)
    write(clone.root, {".git/info/exclude": "/notes/\n/backend/done*\n"})
    write(clone.root.parent.parent, {"elsewhere": "*.py\n"})
    clone.git("config", "core.excludesFile", str(clone.root.parent.parent / "elsewhere"))
    work = {"notes/plan.md": "p", "backend/done.txt": "d", "backend/app.py": "a"}
    write(clone.root, {**work, "node_modules/x.js": "x"})

    result = await workspaces.integrate(at_work, "done")

    assert set(work) <= set(store.files(result.commit))
    assert result.remarks == ("Left out, since it is ignored: node_modules/",)


@pytest.mark.parametrize("place", ["a branch", "a stash", "a detached HEAD"])
async def test_work_elsewhere_makes_an_empty_stage_red_and_is_kept(
    workspaces: GitWorkspaces,
    store: GitProject,
    at_work: StageRequest,
    clone: GitProject,
    place: str,
) -> None:
    branch = clone.git("symbolic-ref", "--short", "HEAD")
    if place != "a stash":
        where = ("--create", "my/work") if place == "a branch" else ("--detach",)
        clone.git("switch", "--quiet", *where)
        clone.commit({"app.py": "a\n"})
        clone.git("switch", "--quiet", branch)
    else:
        write(clone.root, {"app.py": "a\n"})
        clone.git("stash", "--include-untracked", "--quiet")

    result = await workspaces.integrate(at_work, "done")

    assert not result.changed
    assert "left elsewhere" in result.refusal
    left = store.git("for-each-ref", "--format=%(refname)", f"refs/agog/{NUMBER}/left")
    kept = [store.git("log", "--all", "--format=", "--name-only", ref) for ref in left.splitlines()]
    assert any("app.py" in files for files in kept)


async def test_work_elsewhere_is_told_beside_what_is_delivered(
    workspaces: GitWorkspaces, at_work: StageRequest, clone: GitProject
) -> None:
    branch = clone.git("symbolic-ref", "--short", "HEAD")
    clone.git("switch", "--quiet", "--create", "other")
    clone.commit({"other.py": "o\n"})
    clone.git("switch", "--quiet", branch)
    write(clone.root, {"app.py": "a\n"})

    result = await workspaces.integrate(at_work, "done")

    assert result.refusal == ""
    assert "heads/other" in result.remarks[-1]


async def test_branch_of_the_project_that_an_agent_moves_is_its_own_copy(
    workspaces: GitWorkspaces, git_project: GitProject, at_work: StageRequest, clone: GitProject
) -> None:
    before = git_project.state()
    clone.commit({"app.py": "a\n"})
    clone.git("update-ref", "refs/heads/main", "HEAD")

    result = await workspaces.integrate(at_work, "done")

    assert git_project.state() == before
    assert await workspaces.swap_target(NUMBER, "main", result.head.commit)
    assert git_project.git("status", "--porcelain") == ""


async def test_another_branch_checked_out_by_an_agent_takes_nothing_back(
    workspaces: GitWorkspaces, git_project: GitProject, store: GitProject
) -> None:
    """Its files are those of an older commit; what was merged meanwhile is not its deletion."""
    head, _ = await workspaces.open(NUMBER)
    first = stage_request(head, "First")
    write(Path(await workspaces.prepare(first)), {"first.txt": "1\n"})
    merged = (await workspaces.integrate(first, "one")).head
    second = stage_request(merged, "Second")
    clone = GitProject(Path(await workspaces.prepare(second)))
    clone.git("switch", "--quiet", "main")
    write(clone.root, {"second.txt": "2\n"})

    result = await workspaces.integrate(second, "two")

    assert {"first.txt", "second.txt"} <= set(store.files(result.head.commit))


# --- programs that an agent has planted --------------------------------------------------


def plant(clone: GitProject, ran: Path) -> None:
    """Every place from which git takes a program, each naming one that leaves a trace."""
    script = clone.root.parent / "planted.sh"
    script.write_text(f'#!/bin/sh\necho "$0 $*" >> "{ran}"\ncat\n')
    script.chmod(0o755)
    program = str(script)
    for key in (
        "core.fsmonitor", "core.editor", "core.pager", "core.sshCommand", "core.hooksPath",
        "filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "merge.evil.driver",
        "diff.evil.textconv", "diff.evil.command", "diff.external", "gpg.program", "alias.add",
        "uploadpack.packObjectsHook", "core.alternateRefsCommand", "core.gitProxy",
    ):  # fmt: skip
        clone.git("config", key, f"!{program}" if key.startswith("alias") else program)
    for key, value in {
        "commit.gpgSign": "true", "filter.evil.required": "true", "core.worktree": "/",
        "core.bare": "true",
    }.items():  # fmt: skip
        clone.git("config", key, value)
    attributes = "* filter=evil merge=evil diff=evil\n"
    hooks = {f".git/hooks/{name}": script.read_text() for name in ("pre-commit", "post-checkout")}
    write(clone.root, {".gitattributes": attributes, **hooks, ".git/info/attributes": attributes})
    for hook in hooks:
        (clone.root / hook).chmod(0o755)


async def test_no_program_that_an_agent_planted_is_run(
    workspaces: GitWorkspaces, git_project: GitProject, store: GitProject, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    head, target = await workspaces.open(NUMBER)
    both = [stage_request(head, "First"), stage_request(head, "Second", agent="jen")]
    clones = [GitProject(Path(await workspaces.prepare(request))) for request in both]
    for n, clone in enumerate(clones):
        write(clone.root, {"shared.txt": f"one\nof {n}\n", f"part-{n}": "p\n"})
        plant(clone, ran)

    first = await workspaces.integrate(both[0], "one")
    second = await workspaces.integrate(both[1], "two")
    await workspaces.checkout_build(NUMBER, "backend", first.head.commit, clean=True)
    await workspaces.swap_target(NUMBER, target, first.head.commit)

    assert not exists(ran)
    assert store.text(first.head.commit, "part-0") == "p"
    assert second.conflicts == ("shared.txt",)


async def test_repository_of_an_agent_runs_nothing_when_we_take_it(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    at_work: StageRequest,
    clone: GitProject,
    tmp_path: Path,
) -> None:
    """`git add` looks into a repository below: with the settings of that repository."""
    inner = GitProject(clone.root / "inner").init()
    inner.commit({"file": "x\n"})
    clone.git("add", "inner")
    script = tmp_path / "planted"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    script.chmod(0o755)
    inner.git("config", "core.fsmonitor", str(script))
    write(inner.root, {"file": "y\n"})

    await workspaces.integrate(at_work, "done")

    assert not exists(tmp_path / "ran")
    git_project.git("init", "--quiet", at=tmp_path)
    git_project.git("config", "core.fsmonitor", str(script), at=tmp_path)
    git_project.git("status", at=tmp_path)
    assert exists(tmp_path / "ran")  # it would have shown


async def test_union_merge_is_the_projects_to_ask_for_and_no_agents(
    workspaces: GitWorkspaces, git_project: GitProject, store: GitProject
) -> None:
    git_project.commit({".gitattributes": "news.md merge=union\n", "news.md": "# News\n"})
    head, _ = await workspaces.open(NUMBER)

    async def worked(name: str, files: dict[str, str]) -> MergeResult:
        request = stage_request(head, name)
        write(Path(await workspaces.prepare(request)), files)
        return await workspaces.integrate(request, name)

    await worked("First", {"news.md": "# News\none\n", "shared.txt": "1\n"})
    asked = {"news.md": "# News\ntwo\n"}
    allowed = await worked("Second", asked)
    planted = {".gitattributes": "* merge=union\n", "shared.txt": "2\n"}
    refused = await worked("Third", planted)

    assert store.text(allowed.head.commit, "news.md") == "# News\none\ntwo"
    assert refused.conflicts == ("shared.txt",)


async def test_replacement_objects_show_nobody_other_bytes(
    workspaces: GitWorkspaces, git_project: GitProject, at_work: StageRequest, clone: GitProject
) -> None:
    for repository in (git_project, clone):
        write(repository.root, {"fake": "fake\n"})
        fake = repository.git("hash-object", "-w", "fake")
        repository.git("replace", repository.git("rev-parse", "HEAD:shared.txt"), fake)
        (repository.root / "fake").unlink()
    write(clone.root, {"app.py": "a\n"})

    result = await workspaces.integrate(at_work, "done")
    build = Path(await workspaces.checkout_build(NUMBER, "backend", result.head.commit, clean=True))

    assert (build / "shared.txt").read_text() == "one\n"


# --- what git or a rule refuses ----------------------------------------------------------


@pytest.mark.parametrize("target", ["/etc/hosts", "../../elsewhere", "../x/y", "docs/../../out"])
async def test_link_out_of_the_tree_is_refused_by_name_and_kept(
    workspaces: GitWorkspaces,
    store: GitProject,
    at_work: StageRequest,
    clone: GitProject,
    target: str,
) -> None:
    (clone.root / "node_modules").symlink_to(target)
    clone.git("add", "--force", "node_modules")
    (clone.root / "out").symlink_to(target)
    write(clone.root, {"docs/a": "a"})
    (clone.root / "docs/in").symlink_to("../readme.md")

    result = await workspaces.integrate(at_work, "done")

    assert f"out -> {target}" in result.refusal
    assert "docs/in" not in result.refusal
    assert result.head == at_work.head
    assert "out" in store.files(await workspaces.keep(at_work))


async def test_what_git_cannot_take_is_refused_with_its_words(
    workspaces: GitWorkspaces, store: GitProject, at_work: StageRequest, clone: GitProject
) -> None:
    """A name that no checkout on another system may hold."""
    write(clone.root, {"git~1": "x\n", "app.py": "a\n"})

    result = await workspaces.integrate(at_work, "done")

    assert "git~1" in result.refusal
    assert "app.py" in store.files(result.commit)


async def test_latin_1_names_travel_and_can_be_told(
    workspaces: GitWorkspaces, git_project: GitProject, store: GitProject
) -> None:
    head, _ = await workspaces.open(NUMBER)
    results = []
    for name in ("First", "Second"):
        request = stage_request(head, name)
        clone = Path(await workspaces.prepare(request))
        (clone / "caf\udce9.txt").write_text(name)
        results.append(await workspaces.integrate(request, "done"))

    assert results[0].conflicts == ()
    assert results[1].conflicts == ("caf\ufffd.txt",)
    assert await workspaces.integrate(stage_request(head, "Second"), "done") == results[1]


async def test_commits_of_a_damaged_clone_are_told(
    workspaces: GitWorkspaces, store: GitProject, at_work: StageRequest, clone: GitProject
) -> None:
    commit = clone.commit({"app.py": "a\n"})
    tree = clone.git("rev-parse", f"{commit}^{{tree}}")
    (clone.root / ".git/objects" / tree[:2] / tree[2:]).unlink()

    result = await workspaces.integrate(at_work, "done")

    assert "app.py" in store.files(result.head.commit)
    assert "HEAD cannot be read" in result.remarks[0]


async def test_crash_between_the_commits_and_their_refs_changes_no_answer(
    workspaces: GitWorkspaces, store: GitProject, at_work: StageRequest, clone: GitProject
) -> None:
    """What was left elsewhere is in the store by then, and no ref says so."""
    branch = clone.git("symbolic-ref", "--short", "HEAD")
    clone.git("switch", "--quiet", "--create", "wip")
    work = clone.commit({"app.py": "a\n"})
    clone.git("switch", "--quiet", branch)
    store.git("fetch", "--quiet", "--no-tags", str(clone.root), "wip")

    result = await workspaces.integrate(at_work, "done")

    assert "left elsewhere" in result.refusal
    assert work in store.git("for-each-ref", f"refs/agog/{NUMBER}/left")


async def test_work_elsewhere_is_found_among_many_branches_of_the_project(
    workspaces: GitWorkspaces, git_project: GitProject, store: GitProject
) -> None:
    for n in range(250):
        write(git_project.root / ".git/refs/heads", {f"b{n}": git_project.git("rev-parse", "main")})
    git_project.commit({"later": "l\n"})
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    clone = GitProject(Path(await workspaces.prepare(request)))
    branch = clone.git("symbolic-ref", "--short", "HEAD")
    clone.git("switch", "--quiet", "--create", "wip")
    work = clone.commit({"app.py": "a\n"})
    clone.git("switch", "--quiet", branch)

    result = await workspaces.integrate(request, "done")

    assert "heads/wip" in result.refusal
    assert work in store.git("for-each-ref", f"refs/agog/{NUMBER}/left")


async def test_ref_names_that_end_lines_in_unicode_break_nothing(
    workspaces: GitWorkspaces, git_project: GitProject, store: GitProject
) -> None:
    git_project.git("branch", "a\u2028b")
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    clone = GitProject(Path(await workspaces.prepare(request)))
    assert "a\u2028b" in clone.git("branch", "--list")
    clone.git("branch", "c\u0085d")
    write(clone.root, {"app.py": "a\n"})

    assert (await workspaces.integrate(request, "done")).refusal == ""


async def test_cone_of_an_agent_that_merges_keeps_what_it_merged(
    workspaces: GitWorkspaces, git_project: GitProject, store: GitProject
) -> None:
    git_project.commit({"docs/a.txt": "a\n", "backend/app.py": "b\n"})
    git_project.git("switch", "--quiet", "--create", "feat")
    git_project.commit({"docs/a.txt": "better\n", "docs/new.txt": "n\n"})
    git_project.git("switch", "--quiet", "main")
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    clone = GitProject(Path(await workspaces.prepare(request)))
    clone.git("sparse-checkout", "set", "backend")
    clone.git("merge", "--quiet", "--no-edit", "feat")

    result = await workspaces.integrate(request, "done")

    assert store.text(result.head.commit, "docs/a.txt") == "better"
    assert "docs/new.txt" in store.files(result.head.commit)


async def test_state_directory_on_another_file_system(
    git_project: GitProject, request: pytest.FixtureRequest
) -> None:
    home = Path(tempfile.mkdtemp(dir="/dev/shm"))
    request.addfinalizer(lambda: shutil.rmtree(home))
    workspaces = GitWorkspaces(git_project.root, home)
    head, target = await workspaces.open(NUMBER)
    stage = stage_request(head)
    write(Path(await workspaces.prepare(stage)), {"app.py": "a\n"})
    result = await workspaces.integrate(stage, "done")

    assert await workspaces.swap_target(NUMBER, target, result.head.commit)


async def test_settings_of_the_users_repository_lead_to_no_other_program(
    workspaces: GitWorkspaces, git_project: GitProject, at_work: StageRequest, tmp_path: Path
) -> None:
    """An agent can write that file by its path."""
    script = tmp_path / "planted"
    script.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\n")
    script.chmod(0o755)
    write(Path(await workspaces.prepare(at_work)), {"app.py": "a\n"})
    result = await workspaces.integrate(at_work, "done")
    git_project.git("config", f"url.ext::{script} .insteadOf", str(tmp_path))
    git_project.git("config", "protocol.ext.allow", "always")
    git_project.git("config", "core.alternateRefsCommand", str(script))

    with contextlib.suppress(ProjectRefused):  # its settings lead elsewhere than to ours
        await workspaces.swap_target(NUMBER, "main", result.head.commit)

    assert not exists(tmp_path / "ran")


async def test_garbage_collection_of_an_agent_takes_nothing_from_us(
    workspaces: GitWorkspaces, store: GitProject, at_work: StageRequest, clone: GitProject
) -> None:
    clone.commit({"app.py": "a\n"})
    clone.git("reflog", "expire", "--expire=now", "--all")
    clone.git("gc", "--quiet", "--prune=now", "--aggressive")

    result = await workspaces.integrate(at_work, "done")

    assert "app.py" in store.files(result.head.commit)
    assert store.git("fsck", "--no-dangling") == ""


async def test_store_is_packed_when_it_has_grown_and_loses_nothing(
    git_project: GitProject, state_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a stage's clone that borrows from it, objects that no ref holds included."""
    workspaces = GitWorkspaces(git_project.root, state_home)
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    clone = Path(await workspaces.prepare(request))
    store = store_of(git_project, state_home)
    write(git_project.root.parent, {"nobodys": "x\n"})
    blob = store.git("hash-object", "-w", str(git_project.root.parent / "nobodys"))
    before = store.git("for-each-ref").splitlines()
    monkeypatch.setattr("adapters.git.store.MOST_LOOSE", 1)

    await workspaces.open("REQ-2")

    counts = dict(line.split(": ") for line in store.git("count-objects", "-v").splitlines())
    assert int(counts["count"]) < 10  # those of the requirement that was opened after it
    assert int(counts["packs"]) == 1
    assert set(before) <= set(store.git("for-each-ref").splitlines())
    assert store.git("cat-file", "-t", blob) == "blob"
    write(clone, {"new.txt": "new\n"})
    merge = await workspaces.integrate(request, "done")
    assert "new.txt" in store.files(merge.head.commit)
    assert store.git("fsck", "--connectivity-only", "--no-dangling") == ""


async def test_store_that_cannot_be_packed_is_told_and_used(
    git_project: GitProject,
    state_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    workspaces = GitWorkspaces(git_project.root, state_home)
    await workspaces.open(NUMBER)
    store = store_of(git_project, state_home)
    monkeypatch.setattr("adapters.git.store.MOST_LOOSE", 1)
    packs = store.root / "objects" / "pack"
    packs.rmdir()
    packs.touch()

    await workspaces.open("REQ-2")

    assert "stays unpacked" in caplog.text


async def test_shallow_project_is_worked_on(git_project: GitProject, tmp_path: Path) -> None:
    for n in range(3):
        git_project.commit({"n": f"{n}\n"})
    shallow = GitProject(tmp_path / "shallow")
    url = f"file://{git_project.root}"
    git_project.git("clone", "--quiet", "--depth=1", url, str(shallow.root))
    workspaces = GitWorkspaces(shallow.root, tmp_path / "home")
    head, target = await workspaces.open(NUMBER)
    request = stage_request(head)
    clone = GitProject(Path(await workspaces.prepare(request)))
    clone.commit({"app.py": "a\n"})

    result = await workspaces.integrate(request, "done")

    assert await workspaces.swap_target(NUMBER, target, result.head.commit)
    assert shallow.git("status", "--porcelain") == ""
    assert shallow.git("rev-list", "--count", "main") == "2"


@pytest.mark.ordinary_user
@pytest.mark.parametrize("closed", ["a new file", "a tracked file", "a new folder"])
async def test_what_cannot_be_read_is_refused_by_name_and_the_rest_is_kept(
    workspaces: GitWorkspaces,
    store: GitProject,
    at_work: StageRequest,
    clone: GitProject,
    closed: str,
) -> None:
    write(clone.root, {"app.py": "a\n", "shut/inner": "x\n", "shared.txt": "edited\n"})
    name = {"a new file": "shut/inner", "a tracked file": "shared.txt", "a new folder": "shut"}
    (clone.root / name[closed]).chmod(0)
    is_readable = os.access(clone.root / name[closed], os.R_OK)  # to root everything is

    result = await workspaces.integrate(at_work, "done")

    assert (name[closed] in result.refusal) is not is_readable
    assert "app.py" in store.files(result.commit)
    assert not exists(clone.root)
