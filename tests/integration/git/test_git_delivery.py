import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from unittest.mock import patch

import pytest

from adapters.git import Git, GitWorkspaces, check_project
from adapters.git.checkout import LOOK_PAUSE_SECONDS
from adapters.git.command import GitOutput
from pipeline.errors import ProjectRefused
from pipeline.model import Head
from tests.fixtures_workspaces import NUMBER, GitProject, exists, stage_request, write


@pytest.fixture
async def tip(workspaces: GitWorkspaces) -> Head:
    """An integration branch with one stage merged, ready for delivery."""
    return await integrated(workspaces, {"shared.txt": "two\n", "new.txt": "new\n"})


async def integrated(
    workspaces: GitWorkspaces, files: dict[str, str], number: str = NUMBER
) -> Head:
    head, _ = await workspaces.open(number)
    request = stage_request(head, number=number)
    write(Path(await workspaces.prepare(request)), files)
    return (await workspaces.integrate(request, "done")).head


async def test_checked_out_target_moves_with_its_files(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    write(git_project.root, {"notes.txt": "untracked\n"})

    assert await workspaces.swap_target(NUMBER, "main", tip.commit)

    assert git_project.git("rev-parse", "main") == tip.commit
    assert git_project.git("status", "--porcelain") == "?? notes.txt"
    assert exists(git_project.root / "new.txt")


async def test_target_that_is_not_checked_out_moves_alone(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    git_project.git("switch", "--quiet", "--create", "other")

    assert await workspaces.swap_target(NUMBER, "main", tip.commit)

    assert git_project.git("rev-parse", "main") == tip.commit
    assert git_project.git("status", "--porcelain", "--branch") == "## other"
    assert not exists(git_project.root / "new.txt")


async def test_whole_work_is_one_merge_commit_if_that_is_asked_for(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    before = git_project.git("rev-parse", "main")
    title = f"Greet {'x' * 100}"

    sealed = await workspaces.seal(NUMBER, "main", tip.commit, title)
    again = await workspaces.seal(NUMBER, "main", tip.commit, title)
    assert await workspaces.swap_target(NUMBER, "main", sealed)
    delivered = await workspaces.seal(NUMBER, "main", tip.commit, title)

    assert sealed == again == delivered == git_project.git("rev-parse", "main")
    assert git_project.git("log", "-1", "--format=%P", "main").split() == [before, tip.commit]
    assert git_project.git("diff", tip.commit, "main") == ""
    message = git_project.git("log", "-1", "--format=%B", "main").splitlines()
    assert message[0].startswith(f"{NUMBER}: Greet xxx")
    assert len(message[0]) == 72
    assert message[1:] == ["", title, "", "Co-authored-by: Roy <roy@agents.agog.invalid>"]
    assert git_project.git("log", "--first-parent", "--format=%h", "main").count("\n") == 1


async def test_merge_commit_is_made_again_on_a_target_that_moved(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    first = await workspaces.seal(NUMBER, "main", tip.commit, "Greet")
    theirs = git_project.commit({"user.txt": "user\n"})

    assert not await workspaces.swap_target(NUMBER, "main", first)
    head = (await workspaces.merge_target(NUMBER, "main")).head
    second = await workspaces.seal(NUMBER, "main", head.commit, "Greet")

    assert await workspaces.swap_target(NUMBER, "main", second)
    assert git_project.git("log", "-1", "--format=%P", "main").split() == [theirs, head.commit]
    assert first not in git_project.git("rev-list", "main").split()


async def test_tag_of_the_targets_name_is_not_taken_for_it(
    workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    git_project.git("tag", "main")
    head, target = await workspaces.open(NUMBER)
    request = stage_request(head)
    write(Path(await workspaces.prepare(request)), {"new.txt": "new\n"})
    tip = (await workspaces.integrate(request, "done")).head

    assert await workspaces.swap_target(NUMBER, target, tip.commit)

    assert target == "main"
    assert git_project.git("rev-parse", "refs/heads/main") == tip.commit
    assert git_project.git("status", "--porcelain") == ""


async def test_target_checked_out_elsewhere_moves_there(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    git_project.git("switch", "--quiet", "--create", "other")
    elsewhere = git_project.root.parent / "else where"
    git_project.git("worktree", "add", "--quiet", str(elsewhere), "main")

    assert await workspaces.swap_target(NUMBER, "main", tip.commit)

    assert exists(elsewhere / "new.txt")
    assert git_project.git("status", "--porcelain", at=elsewhere) == ""


async def test_delivery_again_is_true_though_the_target_went_on(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    await workspaces.swap_target(NUMBER, "main", tip.commit)
    moved = git_project.commit({"later.txt": "later\n"})

    assert await workspaces.swap_target(NUMBER, "main", tip.commit)
    assert git_project.git("rev-parse", "main") == moved


async def test_moved_target_is_left_alone_then_merged_and_delivered(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    moved = git_project.commit({"later.txt": "later\n"})

    assert not await workspaces.swap_target(NUMBER, "main", tip.commit)
    assert git_project.git("rev-parse", "main") == moved

    merge = await workspaces.merge_target(NUMBER, "main")
    assert merge.conflicts == ()
    assert merge.head.position > tip.position
    assert await workspaces.merge_target(NUMBER, "main") == merge
    assert await workspaces.swap_target(NUMBER, "main", merge.head.commit)
    assert {"later.txt", "new.txt"} <= set(git_project.files("main"))


async def test_target_that_conflicts_changes_nothing(
    workspaces: GitWorkspaces, git_project: GitProject, store: GitProject, tip: Head
) -> None:
    git_project.commit({"shared.txt": "theirs\n"})

    merge = await workspaces.merge_target(NUMBER, "main")

    assert merge.conflicts == ("shared.txt",)
    assert merge.head == tip
    assert store.git("rev-parse", f"agog/{NUMBER}/main") == tip.commit
    assert git_project.git("status", "--porcelain") == ""


async def test_dirty_target_is_refused_and_left_alone(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    write(git_project.root, {"readme.md": "half written\n"})
    before = git_project.state()

    with pytest.raises(ProjectRefused, match="uncommitted changes"):
        await workspaces.swap_target(NUMBER, "main", tip.commit)

    assert git_project.state() == before


async def test_untracked_file_in_the_way_is_refused_with_its_name(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    write(git_project.root, {"new.txt": "precious\n"})
    before = git_project.state()

    with pytest.raises(ProjectRefused, match=r"new\.txt"):
        await workspaces.swap_target(NUMBER, "main", tip.commit)

    assert git_project.state() == before
    assert (git_project.root / "new.txt").read_text() == "precious\n"


@pytest.mark.parametrize(
    "rewrite",
    [
        "git reset --quiet --hard HEAD~1",
        "echo new > other; git add other; git commit --quiet --amend -m amended",
        "git checkout -q --orphan fresh; git commit -q -m fresh; git branch -qM fresh main",
    ],
    ids=["taken off", "amended", "begun anew"],
)
@pytest.mark.parametrize("merges", [False, True])
async def test_what_the_user_takes_off_the_target_does_not_come_back(
    workspaces: GitWorkspaces, git_project: GitProject, rewrite: str, merges: bool
) -> None:
    git_project.commit({"secret": "x\n"})
    tip = await integrated(workspaces, {"shared.txt": "two\n"})
    git_project.shell(f"git config user.name u; git config user.email u@x; {rewrite}")
    before = git_project.state()

    merge = workspaces.merge_target(NUMBER, "main")
    swap = workspaces.swap_target(NUMBER, "main", tip.commit)
    step, other = (merge, swap) if merges else (swap, merge)
    other.close()
    with pytest.raises(ProjectRefused, match="no longer holds"):
        await step

    assert git_project.state() == before


async def test_what_the_user_took_off_after_a_merge_does_not_come_back(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    git_project.commit({"secret": "x\n"})
    tip = (await workspaces.merge_target(NUMBER, "main")).head
    git_project.git("reset", "--quiet", "--hard", "HEAD~1")

    with pytest.raises(ProjectRefused, match="no longer holds"):
        await workspaces.swap_target(NUMBER, "main", tip.commit)


async def test_no_check_of_objects_by_the_user_stands_in_the_way(
    workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    git_project.git("config", "transfer.fsckObjects", "true")
    git_project.git("config", "fetch.fsckObjects", "true")
    declared = '[submodule "x"]\n\tpath = x\n\turl = -bad\n'
    tip = await integrated(workspaces, {".gitmodules": declared})

    assert await workspaces.swap_target(NUMBER, "main", tip.commit)


async def test_target_in_a_rebase_is_refused(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    environment = {**os.environ, "GIT_SEQUENCE_EDITOR": "sed -i 1ibreak"}
    git_project.git("rebase", "--quiet", "--interactive", "HEAD", environment=environment)

    with pytest.raises(ProjectRefused, match="being rebased"):
        await workspaces.swap_target(NUMBER, "main", tip.commit)

    git_project.git("rebase", "--continue")
    assert await workspaces.swap_target(NUMBER, "main", tip.commit)


async def test_target_that_is_gone_is_refused(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    git_project.git("switch", "--quiet", "--create", "other")
    git_project.git("branch", "--quiet", "-D", "main")

    with pytest.raises(ProjectRefused, match="gone"):
        await workspaces.swap_target(NUMBER, "main", tip.commit)


async def test_one_of_two_deliveries_wins_and_the_other_merges_first(
    workspaces: GitWorkspaces, git_project: GitProject, state_home: Path
) -> None:
    other = GitWorkspaces(git_project.root, state_home)
    heads = [
        await integrated(workspaces, {f"{number}.txt": number}, number)
        for number in ("REQ-1", "REQ-2")
    ]

    swapped = await asyncio.gather(
        workspaces.swap_target("REQ-1", "main", heads[0].commit),
        other.swap_target("REQ-2", "main", heads[1].commit),
    )

    assert sorted(swapped) == [False, True]
    loser = f"REQ-{swapped.index(False) + 1}"
    merge = await workspaces.merge_target(loser, "main")
    assert await workspaces.swap_target(loser, "main", merge.head.commit)
    assert {"REQ-1.txt", "REQ-2.txt"} <= set(git_project.files("main"))
    assert git_project.git("status", "--porcelain") == ""


async def test_ignored_file_in_the_way_is_refused_like_any_other(
    workspaces: GitWorkspaces, git_project: GitProject, state_home: Path
) -> None:
    """An agent that adds an ignored file by force must not overwrite the user's own."""
    git_project.commit({".gitignore": ".env\n"})
    write(git_project.root, {".env": "SECRET=mine\n"})
    head, target = await workspaces.open(NUMBER)
    request = stage_request(head)
    clone = GitProject(Path(await workspaces.prepare(request)))
    write(clone.root, {".env": "SECRET=theirs\n", "app.py": "a\n"})
    clone.git("add", "--force", ".env")
    clone.git("commit", "--quiet", "--message", "by force")
    tip = (await workspaces.integrate(request, "done")).head

    with pytest.raises(ProjectRefused, match=r"\.env"):
        await workspaces.swap_target(NUMBER, target, tip.commit)

    assert (git_project.root / ".env").read_text() == "SECRET=mine\n"
    assert git_project.git("status", "--porcelain") == ""
    (git_project.root / ".env").unlink()
    assert await workspaces.swap_target(NUMBER, target, tip.commit)
    assert exists(git_project.root / "app.py")


SETTINGS = {
    "merge.verifySignatures": "true",
    "pull.twohead": "ours",
    "status.branch": "true",
    "core.safecrlf": "true",
    "status.showStash": "true",
    "merge.ff": "false",
    "merge.autoStash": "true",
    "pull.rebase": "true",
    "submodule.recurse": "true",
    "core.editor": "false",
    "commit.gpgSign": "true",
    "fetch.prune": "true",
    "receive.denyCurrentBranch": "refuse",
    "core.hooksPath": "hooks",
}
OPTIONS = ("--squash", "--no-ff --edit", "--no-commit", "-s ours", "-s subtree", "--no-such-option")


@pytest.mark.parametrize(
    "settings",
    [SETTINGS, *({"branch.main.mergeOptions": options} for options in OPTIONS)],
    ids=["all of them", *OPTIONS],
)
async def test_no_setting_of_the_user_turns_the_fast_forward(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head, settings: dict[str, str]
) -> None:
    write(git_project.root, {"readme.md": "stashed\n"})
    git_project.git("stash", "push", "--quiet")
    for key, value in settings.items():
        git_project.git("config", key, value)
    before = git_project.git("for-each-ref", "--format=%(refname)")

    assert await workspaces.swap_target(NUMBER, "main", tip.commit)

    assert git_project.git("rev-parse", "main") == tip.commit
    assert git_project.git("status", "--porcelain", "--no-branch", "--no-show-stash") == ""
    assert git_project.git("for-each-ref", "--format=%(refname)") == before


Aside = Callable[[Git, tuple[str, ...]], Awaitable[None]]


@contextmanager
def aside(
    command: str, *, before: Aside | None = None, after: Aside | None = None
) -> Iterator[None]:
    """Do something right before or after the first time that git is called so."""
    once, calls = Git._once, count()

    async def patched(git: Git, arguments: tuple[str, ...], stdin: str) -> GitOutput:
        is_it = arguments[0] == command and next(calls) == 0
        if is_it and before:
            await before(git, arguments)
        output = await once(git, arguments, stdin)
        if is_it and after:
            await after(git, arguments)
        return output

    with patch.object(Git, "_once", patched):
        yield


async def test_requirement_opens_while_another_one_is_being_delivered(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    is_halfway, may_proceed = asyncio.Event(), asyncio.Event()

    async def halfway(_git: Git, _arguments: tuple[str, ...]) -> None:
        """The files are written, the branch has not moved yet: as git does it."""
        git_project.git("read-tree", "-m", "-u", tip.commit)
        is_halfway.set()
        await may_proceed.wait()

    with aside("merge", before=halfway):
        delivery = asyncio.create_task(workspaces.swap_target(NUMBER, "main", tip.commit))
        await is_halfway.wait()
        opening = asyncio.create_task(workspaces.open("REQ-2"))
        await asyncio.wait([opening], timeout=3 * LOOK_PAUSE_SECONDS)
        may_proceed.set()
        assert await delivery

    head, target = await opening
    assert (head.commit, target) == (tip.commit, "main")


async def test_checkout_that_the_users_git_is_moving_is_not_called_changed(
    git_project: GitProject, workspaces: GitWorkspaces, tip: Head
) -> None:
    git_project.git("branch", "theirs")
    assert await workspaces.swap_target(NUMBER, "theirs", tip.commit)
    git_project.git("read-tree", "-m", "-u", tip.commit)

    async def end(_git: Git, _arguments: tuple[str, ...]) -> None:
        git_project.git("update-ref", "refs/heads/main", tip.commit)

    with aside("status", after=end):
        assert (await check_project(git_project.root)).branch == "main"


async def test_what_the_user_edits_in_that_moment_is_left_alone(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    async def edit(_git: Git, _arguments: tuple[str, ...]) -> None:
        write(git_project.root, {"readme.md": "mine\n", "shared.txt": "mine too\n"})

    with aside("merge", after=edit):
        assert await workspaces.swap_target(NUMBER, "main", tip.commit)

    assert (git_project.root / "readme.md").read_text() == "mine\n"
    assert (git_project.root / "shared.txt").read_text() == "mine too\n"


async def test_files_that_were_not_brought_along_are_named_with_the_remedy(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    async def half(_git: Git, _arguments: tuple[str, ...]) -> None:
        write(git_project.root, {"readme.md": "mine\n", "shared.txt": "one\n"})
        (git_project.root / "new.txt").unlink()

    with aside("merge", after=half), pytest.raises(ProjectRefused, match=r"new\.txt") as refusal:
        await workspaces.swap_target(NUMBER, "main", tip.commit)

    git_project.shell(str(refusal.value).split("`")[1])
    assert git_project.git("status", "--porcelain") == "M readme.md"
    assert (git_project.root / "readme.md").read_text() == "mine\n"


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_target_that_the_user_switches_to_in_that_moment(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head, moment: str
) -> None:
    """It was checked out nowhere a moment ago."""
    git_project.git("switch", "--quiet", "--create", "other")

    async def switch(_git: Git, _arguments: tuple[str, ...]) -> None:
        git_project.git("switch", "--quiet", "main")

    async def swap() -> bool:
        return await workspaces.swap_target(NUMBER, "main", tip.commit)

    if moment == "after":
        with aside("update-ref", after=switch):
            assert await swap()
    else:
        with aside("update-ref", before=switch), pytest.raises(ProjectRefused) as refusal:
            await swap()
        git_project.shell(str(refusal.value).split("`")[1])
        assert await swap()

    assert git_project.git("rev-parse", "main") == tip.commit
    assert git_project.git("status", "--porcelain") == ""
    assert exists(git_project.root / "new.txt")


async def test_second_checkout_of_the_target_is_told_that_its_files_stay_behind(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    second = git_project.root.parent / "second"
    git_project.git("worktree", "add", "--quiet", "--force", str(second), "main")

    with pytest.raises(ProjectRefused, match="second") as refusal:
        await workspaces.swap_target(NUMBER, "main", tip.commit)

    assert git_project.git("status", "--porcelain") == ""
    GitProject(second).shell(str(refusal.value).split("`")[1])
    assert git_project.git("status", "--porcelain", at=second) == ""
    assert await workspaces.swap_target(NUMBER, "main", tip.commit)


async def test_target_that_was_moved_without_its_files_is_told_with_the_remedy(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    """As an agent does by path: committing what `git status` shows would revert the move."""
    before = git_project.git("rev-parse", "main")
    tree = git_project.git("rev-parse", "main^{tree}")
    write(git_project.root.parent, {"feature.py": "f\n"})
    blob = git_project.git("hash-object", "-w", "../feature.py")
    listing = f"{git_project.git('ls-tree', tree)}\n100644 blob {blob}\tfeature.py\n"
    write(git_project.root.parent, {"listing": listing})
    git_project.shell("git mktree < ../listing > ../made")
    made = (git_project.root.parent / "made").read_text().strip()
    moved = git_project.git("commit-tree", made, "-p", before, "-m", "by path")
    git_project.git("update-ref", "refs/heads/main", moved)
    merged = await workspaces.merge_target(NUMBER, "main")

    with pytest.raises(ProjectRefused, match=f"moved from {before[:10]}") as refusal:
        await workspaces.swap_target(NUMBER, "main", merged.head.commit)

    remedy = str(refusal.value).split("`")[1]
    git_project.shell(remedy)
    assert git_project.git("status", "--porcelain") == ""
    assert await workspaces.swap_target(NUMBER, "main", merged.head.commit)
    assert {"feature.py", "new.txt"} <= set(git_project.files("main"))


async def test_build_checkout_is_exact_but_keeps_what_is_ignored(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    base = git_project.git("rev-parse", "main")
    path = Path(await workspaces.checkout_build(NUMBER, "backend", base, clean=False))
    write(
        path,
        {
            "shared.txt": "spoilt by the build\n",
            "dist/out.js": "untracked\n",
            "nested/.git/HEAD": "ref: refs/heads/main\n",
            "node_modules/pad/index.js": "ignored\n",
        },
    )
    (path / ".git/index.lock").touch()  # of a build that was killed while it ran git

    again = Path(await workspaces.checkout_build(NUMBER, "backend", tip.commit, clean=False))

    assert again == path
    assert git_project.git("rev-parse", "HEAD", at=path) == tip.commit
    assert sorted(os.listdir(path)) == [
        ".git", ".gitignore", "new.txt", "node_modules", "readme.md", "shared.txt",
    ]  # fmt: skip
    assert (path / "shared.txt").read_text() == "two\n"


async def test_damaged_build_clone_is_made_anew(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    path = Path(await workspaces.checkout_build(NUMBER, "backend", tip.commit, clean=False))
    shutil.rmtree(path / ".git")
    (path / "shared.txt").unlink()

    assert await workspaces.checkout_build(NUMBER, "backend", tip.commit, clean=False) == str(path)
    assert git_project.git("status", "--porcelain", at=path) == ""
