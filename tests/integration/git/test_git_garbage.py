"""What is removed after a delivery and by `gc`: refs of merged work, and nothing else."""

from pathlib import Path

import pytest

from adapters.git import GitWorkspaces
from adapters.git.garbage import GarbageCollector
from pipeline.model import BranchOrder, Head
from tests.fixtures_workspaces import NUMBER, GitProject, stage_request, write

BRANCH = "agog/REQ-1-greet"


@pytest.fixture
async def tip(workspaces: GitWorkspaces) -> Head:
    """A stage that failed once and was merged then, and a fix that was merged."""
    head, _ = await workspaces.open(NUMBER)
    failed, passed = stage_request(head), stage_request(head, attempt=2)
    write(Path(await workspaces.prepare(failed)), {"failed.txt": "no\n"})
    await workspaces.keep(failed)
    write(Path(await workspaces.prepare(passed)), {"new.txt": "new\n"})
    head = (await workspaces.integrate(passed, "done")).head
    fix = f"{NUMBER}-FIX-1"
    base, _ = await workspaces.open(fix, head.commit)
    request = stage_request(base, number=fix)
    write(Path(await workspaces.prepare(request)), {"fixed.txt": "1\n"})
    await workspaces.integrate(request, "fixed")
    head = (await workspaces.merge_fix(NUMBER, fix)).head
    for number in (NUMBER, fix):
        await workspaces.release(number)
    return head


def refs(store: GitProject) -> set[str]:
    listed = store.git("for-each-ref", "--format=%(refname)", "refs/heads/agog", "refs/agog")
    return set(listed.splitlines())


async def test_after_a_delivery_the_branches_of_stages_and_fixes_are_gone(
    workspaces: GitWorkspaces, store: GitProject, tip: Head
) -> None:
    before = refs(store)
    await workspaces.swap_target(NUMBER, "main", tip.commit)

    for _ in range(2):  # a repeat is harmless
        await workspaces.forget_merged(NUMBER, tip.commit)

    gone = before - refs(store)
    assert refs(store) <= before
    assert f"refs/heads/agog/{NUMBER}/backend-implementation-2" in gone
    assert {ref for ref in gone if "FIX" in ref} >= {f"refs/heads/agog/{NUMBER}-FIX-1/main"}
    left = {ref for ref in refs(store) if "FIX" not in ref}
    assert left == {
        f"refs/heads/agog/{NUMBER}/main",
        *(f"refs/agog/{NUMBER}/{name}" for name in ("base", "seen", "target")),
        f"refs/agog/{NUMBER}/kept/backend-implementation-1",
    }


async def test_gc_takes_what_a_branch_of_the_project_holds_and_names_the_rest(
    workspaces: GitWorkspaces, git_project: GitProject, store: GitProject, tip: Head,
    state_home: Path,
) -> None:  # fmt: skip
    order = BranchOrder(NUMBER, BRANCH, tip.commit, "main", "", needs_remote=False)
    await workspaces.publish(order)
    git_project.git("branch", "agog/REQ-2-own", tip.commit)
    collector = GarbageCollector(git_project.root, state_home)
    assert list(await collector.numbers()) == [NUMBER, f"{NUMBER}-FIX-1"]

    (early, _) = await collector.plan(await collector.numbers())
    assert early.branches == {}
    assert {BRANCH, f"refs/heads/agog/{NUMBER}/main"} <= set(early.unmerged)

    git_project.git("merge", "--quiet", "--no-ff", "--message=Merged", BRANCH)
    plan = await collector.plan(await collector.numbers())
    assert git_project.git("rev-parse", BRANCH) == tip.commit  # a plan changes nothing
    for each in plan:
        await collector.remove(each)

    kept = f"refs/agog/{NUMBER}/kept/backend-implementation-1"
    assert [name for each in plan for name in each.unmerged] == [kept]
    assert [dict(each.branches) for each in plan] == [{BRANCH: tip.commit}, {}]
    assert git_project.git("branch", "--list", "agog/*") == "agog/REQ-2-own"
    texts = {ref for ref in refs(store) if NUMBER in ref and "FIX" not in ref} - {kept}
    assert {store.git("cat-file", "-t", ref) for ref in texts} <= {"blob"}
    assert store.text(kept, "failed.txt") == "no"
    assert not any("FIX" in ref for ref in refs(store))


@pytest.mark.parametrize("later", [{}, {"new.txt": "newer\n"}, {"other.txt": "x\n"}])
async def test_gc_takes_what_a_forge_has_squashed(
    workspaces: GitWorkspaces, git_project: GitProject, store: GitProject, tip: Head,
    state_home: Path, later: dict[str, str],
) -> None:  # fmt: skip
    await workspaces.publish(
        BranchOrder(NUMBER, BRANCH, tip.commit, "main", "", needs_remote=False)
    )
    git_project.commit({"theirs.txt": "meanwhile\n"})
    git_project.git("merge", "--quiet", "--squash", BRANCH)
    git_project.git("commit", "--quiet", "--message=Greet (#7)")
    if later:
        git_project.commit(later)
    collector = GarbageCollector(git_project.root, state_home)

    plan = await collector.plan(await collector.numbers())
    for each in plan:
        await collector.remove(each)

    kept = f"refs/agog/{NUMBER}/kept/backend-implementation-1"
    assert [name for each in plan for name in each.unmerged] == [kept]
    assert git_project.git("branch", "--list", "agog/*") == ""
    assert not any("FIX" in ref for ref in refs(store))
    assert store.text(kept, "failed.txt") == "no"


async def test_gc_keeps_what_was_squashed_by_half_or_changed_on_the_way(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head, state_home: Path
) -> None:
    await workspaces.publish(
        BranchOrder(NUMBER, BRANCH, tip.commit, "main", "", needs_remote=False)
    )
    git_project.commit({"new.txt": "new\n"}, "Half of it")  # without what the fix has added
    collector = GarbageCollector(git_project.root, state_home)

    (half, fix) = await collector.plan(await collector.numbers())
    git_project.commit({"fixed.txt": "2\n"}, "Otherwise")
    (otherwise, _) = await collector.plan(await collector.numbers())

    for each in (half, otherwise):
        assert BRANCH in each.unmerged
        assert each.branches == {}
    assert f"refs/heads/agog/{NUMBER}-FIX-1/main" in fix.unmerged


@pytest.mark.parametrize(
    ("before", "work", "theirs"),
    [
        ("", "if x:\n    a()\n    b()\n", "if x:\n    a()\nb()\n"),  # white space is code
        ("one\ntwo\nthree\n", "one\nthree\n", "one\n2\nthree\n"),  # a union deletes nothing
    ],
)
async def test_gc_keeps_work_that_only_looks_like_what_the_target_holds(
    workspaces: GitWorkspaces, git_project: GitProject, state_home: Path,
    before: str, work: str, theirs: str,
) -> None:  # fmt: skip
    files = {".gitattributes": "*.md merge=union\n"}
    git_project.commit({**files, "x.md": before} if before else files)
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    write(Path(await workspaces.prepare(request)), {"x.md": work})
    head = (await workspaces.integrate(request, "done")).head
    await workspaces.release(NUMBER)
    git_project.commit({"x.md": theirs})
    collector = GarbageCollector(git_project.root, state_home)

    (plan,) = await collector.plan([NUMBER])

    assert f"refs/heads/agog/{NUMBER}/main" in plan.unmerged


async def test_a_branch_that_somebody_went_on_with_stays(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head, state_home: Path
) -> None:
    await workspaces.publish(
        BranchOrder(NUMBER, BRANCH, tip.commit, "main", "", needs_remote=False)
    )
    git_project.git("merge", "--quiet", BRANCH)
    git_project.git("switch", "--quiet", BRANCH)
    collector = GarbageCollector(git_project.root, state_home)

    (on_it, _) = await collector.plan(await collector.numbers())
    theirs = git_project.commit({"more.txt": "more\n"})
    git_project.git("switch", "--quiet", "main")
    (moved, _) = await collector.plan(await collector.numbers())
    await collector.remove(moved)

    assert on_it.branches == moved.branches == {}
    assert git_project.git("rev-parse", BRANCH) == theirs
