import asyncio
import os
from pathlib import Path

import pytest

from adapters.git import GitWorkspaces
from pipeline.errors import ProjectRefused, RefusedInput
from pipeline.model import Head, MergeResult
from tests.fixtures_workspaces import NUMBER, GitProject, stage_request, write


async def worked(
    workspaces: GitWorkspaces,
    head: Head,
    files: dict[str, str],
    name: str = "Backend Implementation",
) -> MergeResult:
    """One stage from its clone to its merge."""
    request = stage_request(head, name)
    write(Path(await workspaces.prepare(request)), files)
    return await workspaces.integrate(request, f"{name} done")


async def test_opening_creates_the_integration_branch_and_nothing_else(
    workspaces: GitWorkspaces, git_project: GitProject, store: GitProject
) -> None:
    before = (git_project.state(), git_project.git("for-each-ref"))

    head, target = await workspaces.open(NUMBER)

    assert Head(git_project.git("rev-parse", "main"), 0) == head
    assert target == "main"
    assert store.git("rev-parse", f"agog/{NUMBER}/main") == head.commit
    assert (git_project.state(), git_project.git("for-each-ref")) == before


async def test_opening_again_answers_the_same_though_the_user_went_on(
    workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    opened = await workspaces.open(NUMBER)
    git_project.git("switch", "--quiet", "--create", "other")
    git_project.commit({"readme.md": "moved\n"})
    write(git_project.root, {"readme.md": "dirty\n"})

    assert await workspaces.open(NUMBER) == opened


async def test_branches_of_an_earlier_life_are_refused_until_they_are_deleted(
    workspaces: GitWorkspaces, git_project: GitProject, store: GitProject
) -> None:
    """As where the database was thrown away: old merges must not pass for new ones."""
    head, _ = await workspaces.open(NUMBER)
    await worked(workspaces, head, {"a": "a"})
    await workspaces.release(NUMBER)
    store.git("branch", "--quiet", "-D", f"agog/{NUMBER}/main")

    with pytest.raises(ProjectRefused, match="an earlier REQ-1") as refusal:
        await workspaces.open(NUMBER)

    _, remedy = str(refusal.value).split("delete them: ")
    git_project.shell(remedy)
    assert await workspaces.open(NUMBER) == (head, "main")


async def test_release_of_what_was_never_opened_needs_no_project(tmp_path: Path) -> None:
    await GitWorkspaces(tmp_path / "nowhere", tmp_path / "home").release(NUMBER)


async def test_stage_is_committed_and_merged_without_touching_the_project(
    workspaces: GitWorkspaces, git_project: GitProject, store: GitProject
) -> None:
    before = git_project.state()
    head, _ = await workspaces.open(NUMBER)

    result = await worked(workspaces, head, {"backend/app.py": "print()\n"})

    assert result.head.position == 1
    assert result.conflicts == ()
    assert "backend/app.py" in store.files(f"agog/{NUMBER}/main")
    assert git_project.state() == before


async def test_commit_names_stage_agent_and_run(
    workspaces: GitWorkspaces, git_project: GitProject, store: GitProject
) -> None:
    git_project.git("config", "user.email", "")  # it does not say who commits
    head, _ = await workspaces.open(NUMBER)

    result = await worked(workspaces, head, {"a.txt": "a"})

    message = store.git("log", "-1", "--format=%an <%ae>%n%B", result.commit)
    assert message.splitlines() == [
        "Agog Orchestrator <orchestrator@agog.invalid>",
        f"{NUMBER} Backend Implementation: Backend Implementation done",
        "",
        "Co-authored-by: Roy <roy@agents.agog.invalid>",
        f"Agog-Run: {NUMBER}/run-1/Backend Implementation/1",
    ]


async def test_summary_of_any_shape_makes_a_commit(
    workspaces: GitWorkspaces, store: GitProject
) -> None:
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    write(Path(await workspaces.prepare(request)), {"a.txt": "a"})

    result = await workspaces.integrate(request, "x" * 200 + "\nsecond\0 line \ud800\n")

    subject, _, body = store.git("log", "-1", "--format=%B", result.commit).partition("\n")
    assert len(subject) == 72
    assert "x" * 200 + "\nsecond line" in body


async def test_clone_is_the_same_when_asked_again(workspaces: GitWorkspaces) -> None:
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    path = await workspaces.prepare(request)
    write(Path(path), {"shared.txt": "agent at work\n", "new.txt": "too\n"})

    assert await workspaces.prepare(request) == path
    assert (Path(path) / "shared.txt").read_text() == "agent at work\n"
    assert (Path(path) / "new.txt").exists()


async def test_half_made_clone_is_made_anew(workspaces: GitWorkspaces, state_home: Path) -> None:
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    path = Path(await workspaces.prepare(request))
    (state_home / "indexes" / NUMBER / path.name / "checkout.json").unlink()
    (path / "readme.md").unlink()

    assert await workspaces.prepare(request) == str(path)
    assert (path / "readme.md").exists()


@pytest.mark.parametrize("left", ["nothing", "an empty directory", "files without .git"])
async def test_clone_is_made_over_leftovers(workspaces: GitWorkspaces, left: str) -> None:
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    path = Path(await workspaces.prepare(request))
    await workspaces.release(NUMBER)
    if left != "nothing":
        os.makedirs(path)
    if left == "files without .git":
        write(path, {"junk": "junk"})

    assert await workspaces.prepare(request) == str(path)
    assert sorted(os.listdir(path)) == [".git", ".gitignore", "readme.md", "shared.txt"]


async def test_unchanged_clone_leaves_the_head_alone(workspaces: GitWorkspaces) -> None:
    head, _ = await workspaces.open(NUMBER)

    result = await worked(workspaces, head, {})

    assert result == MergeResult(head, head.commit, changed=False)


async def test_parallel_stages_are_all_merged(workspaces: GitWorkspaces, store: GitProject) -> None:
    head, _ = await workspaces.open(NUMBER)

    results = await asyncio.gather(
        *(worked(workspaces, head, {f"part-{n}": str(n)}, f"Part {n}") for n in range(8))
    )

    positions = sorted(result.head.position for result in results)
    assert positions == sorted(set(positions))
    assert {f"part-{n}" for n in range(8)} <= set(store.files(f"agog/{NUMBER}/main"))


async def test_conflict_names_the_files_and_changes_nothing(
    workspaces: GitWorkspaces, store: GitProject
) -> None:
    head, _ = await workspaces.open(NUMBER)
    first = stage_request(head, "First")
    second = stage_request(head, "Second")
    for request in (first, second):
        write(Path(await workspaces.prepare(request)), {"shared.txt": request.stage.name})
    merged = await workspaces.integrate(first, "one")

    result = await workspaces.integrate(second, "two")

    assert result.conflicts == ("shared.txt",)
    assert result.head == merged.head
    assert store.git("rev-parse", f"agog/{NUMBER}/main") == merged.head.commit
    assert store.text(result.commit, "shared.txt") == "Second"
    assert store.text(await workspaces.keep(second), "shared.txt") == "Second"


async def test_merge_is_not_repeated(workspaces: GitWorkspaces) -> None:
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head, "First")
    write(Path(await workspaces.prepare(request)), {"a": "a"})
    first = await workspaces.integrate(request, "one")
    await worked(workspaces, head, {"b": "b"}, "Second")

    # The activity is repeated from its start, after others have gone on.
    await workspaces.prepare(request)
    assert await workspaces.integrate(request, "one") == first


@pytest.mark.parametrize(
    ("deeds", "changed"),
    [
        ("true", False),
        ("git commit --quiet --allow-empty -m nothing", False),
        ("echo x > x; git add x; git commit -qm x; git revert --no-edit HEAD", False),
        ("mkdir node_modules; echo x > node_modules/x", False),
        ("echo x > x", True),
        ("echo x > x; git add x; git commit -qm x", True),
        ("chmod +x shared.txt", True),
        ("rm shared.txt", True),
        ("git merge --quiet -s ours theirs", True),
    ],
)
async def test_whether_a_stage_has_changed_anything_is_told(
    workspaces: GitWorkspaces, git_project: GitProject, deeds: str, *, changed: bool
) -> None:
    git_project.git("switch", "--quiet", "--create", "theirs")
    git_project.commit({"readme.md": "theirs\n"})
    git_project.git("switch", "--quiet", "main")
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    worktree = await workspaces.prepare(request)
    git_project.shell(f"cd '{worktree}' && {deeds}")

    first = await workspaces.integrate(request, "done")

    assert first.changed is changed
    await worked(workspaces, head, {"b": "b"}, "Second")
    assert await workspaces.integrate(request, "done") == first


async def test_clone_that_vanished_is_no_empty_success(workspaces: GitWorkspaces) -> None:
    head, _ = await workspaces.open(NUMBER)

    with pytest.raises(ProjectRefused, match="gone before its merge"):
        await workspaces.integrate(stage_request(head), "done")


async def test_number_cannot_lead_out_of_the_state_directory(workspaces: GitWorkspaces) -> None:
    for number in ("..", "../x", "a/b", ""):
        with pytest.raises(RefusedInput):
            await workspaces.release(number)


async def test_who_commits_is_configured_or_who_the_repository_says(
    workspaces: GitWorkspaces, git_project: GitProject, store: GitProject, state_home: Path
) -> None:
    git_project.git("config", "user.name", "Ann Lee")
    git_project.git("config", "user.email", "ann@b.example")
    head, _ = await workspaces.open(NUMBER)
    other = GitWorkspaces(git_project.root, state_home, author=lambda: ("Bot", "bot@b.example"))

    first = await worked(workspaces, head, {"a.txt": "a"})
    request = stage_request(first.head, attempt=2)
    write(Path(await other.prepare(request)), {"b.txt": "b"})
    named = await other.integrate(request, "done")
    git_project.commit({"user.txt": "user\n"})
    merged = await other.merge_target(NUMBER, "main")

    said = [
        store.git("log", "-1", "--format=%an <%ae> %cn <%ce>", commit)
        for commit in (first.commit, named.commit, merged.head.commit)
    ]
    bot = "Bot <bot@b.example>"
    assert said == [
        "Ann Lee <ann@b.example> Ann Lee <ann@b.example>",
        f"{bot} {bot}",
        f"{bot} {bot}",
    ]
    assert await workspaces.last_author(NUMBER, named.head.commit, ("b.txt",)) == "roy"
