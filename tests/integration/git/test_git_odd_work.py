"""What agents do to histories, indexes and single files, and what must not be lost by it."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from adapters.git import GitWorkspaces
from pipeline.model import MergeResult, StageRequest
from tests.fixtures_workspaces import NUMBER, GitProject, exists, stage_request, write

Deed = Callable[[str], Awaitable[MergeResult]]
KEPT = f"refs/agog/{NUMBER}/kept/backend-implementation-1"


AtWork = tuple[StageRequest, GitProject]


async def begin(workspaces: GitWorkspaces) -> AtWork:
    """A stage at work in its clone."""
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    clone = GitProject(Path(await workspaces.prepare(request)))
    clone.git("config", "user.name", "roy")
    clone.git("config", "user.email", "roy@example.invalid")
    return request, clone


@pytest.fixture
def deed(workspaces: GitWorkspaces) -> Deed:
    """Runs an agent's commands in its clone and takes over what it did."""

    async def done(command: str) -> MergeResult:
        request, clone = await begin(workspaces)
        clone.shell(command)
        return await workspaces.integrate(request, "done")

    return done


# --- a history that was rewritten -----------------------------------------------------------------


async def test_base_commit_that_an_agent_amends_is_no_conflict(
    git_project: GitProject, store: GitProject, deed: Deed
) -> None:
    git_project.commit({"shared.txt": "one\ntwo\n"})
    result = await deed("printf 'one\\nthree\\n' > shared.txt; git commit -qa --amend -m amended")

    assert not result.conflicts
    assert store.text(result.head.commit, "shared.txt") == "one\nthree"


async def test_what_an_amended_base_commit_no_longer_adds_is_deleted(
    git_project: GitProject, store: GitProject, deed: Deed
) -> None:
    git_project.commit({"new.txt": "one\ntwo\n"})
    result = await deed("git rm -q new.txt; echo x > other; git add -A; git commit -q --amend -m a")

    assert "new.txt" not in store.files(result.head.commit)
    assert "other" in store.files(result.head.commit)


@pytest.mark.parametrize("end", ["git commit -qm squashed", "true"])
async def test_commits_that_an_agent_squashes_with_those_before_are_no_conflict(
    git_project: GitProject, store: GitProject, deed: Deed, end: str
) -> None:
    git_project.commit({"shared.txt": "one\ntwo\nthree\nfour\n"})
    result = await deed(f"sed -i s/three/3/ shared.txt; git reset -q --soft HEAD~1; {end}")

    assert not result.conflicts
    assert store.text(result.head.commit, "shared.txt") == "one\ntwo\n3\nfour"


@pytest.mark.parametrize("end", ["git add -A; git commit -qm old", "true"])
async def test_work_on_an_older_commit_undoes_nothing(
    git_project: GitProject, store: GitProject, deed: Deed, end: str
) -> None:
    """It has looked at an older commit, and continued there."""
    git_project.commit({"new.txt": "one\ntwo\n", "shared.txt": "one\ntwo\nthree\n"})
    result = await deed(f"git checkout -q HEAD~1; echo mine > mine.txt; {end}")

    assert {"new.txt", "mine.txt"} <= set(store.files(result.head.commit))
    assert store.text(result.head.commit, "shared.txt") == "one\ntwo\nthree"


# --- files and entries that are not like the others -----------------------------------------------


async def test_only_the_file_that_git_cannot_encode_is_refused_and_all_is_kept(
    git_project: GitProject, workspaces: GitWorkspaces, store: GitProject
) -> None:
    git_project.commit({".gitattributes": "*.rc text working-tree-encoding=UTF-16\n"})
    request, clone = await begin(workspaces)
    write(clone.root, {f"work{n}.py": "w\n" for n in range(5)})
    write(clone.root, {"a.rc": "abc", "shared.txt": "more\n"})

    result = await workspaces.integrate(request, "done")

    assert "a.rc" in result.refusal
    assert "work0.py" not in result.refusal
    await workspaces.keep(request)
    kept = store.git("rev-parse", KEPT)
    assert store.text(kept, "a.rc") == "abc"
    assert store.text(kept, "work0.py") == "w"
    assert store.text(kept, "shared.txt") == "more"


async def test_files_below_a_commit_of_another_repository_that_nobody_declared(
    git_project: GitProject, workspaces: GitWorkspaces, store: GitProject
) -> None:
    GitProject(git_project.root / "inner").init().commit({"f": "f\n"})
    git_project.shell("git add inner 2>/dev/null")
    git_project.git("commit", "--quiet", "--message", "a bare pointer")
    request, clone = await begin(workspaces)
    write(clone.root, {"inner/work.py": "w\n", "new": "n\n"})

    result = await workspaces.integrate(request, "done")

    assert "inner" in result.refusal
    await workspaces.keep(request)
    assert store.text(KEPT, "inner/work.py") == "w"


async def test_what_an_agent_untracks_and_ignores_is_untracked(
    git_project: GitProject, store: GitProject, deed: Deed
) -> None:
    git_project.commit({"dist/a": "a\n", "dist/b": "b\n"})
    result = await deed(
        "git rm -rq --cached dist; echo dist/ >> .gitignore; git add -A; git commit -qm untrack"
    )

    assert not result.refusal
    assert not [name for name in store.files(result.head.commit) if name.startswith("dist/")]


async def test_what_an_agent_ignores_but_still_tracks_stays(
    git_project: GitProject, store: GitProject, deed: Deed
) -> None:
    git_project.commit({"dist/a": "a\n"})
    result = await deed("echo dist/ >> .gitignore; echo b > dist/a; git add -A; git commit -qm i")

    assert store.text(result.head.commit, "dist/a") == "b"


async def test_mode_that_only_the_index_knows_is_taken(store: GitProject, deed: Deed) -> None:
    result = await deed("echo hi > run.sh; git add --chmod=+x run.sh; git commit -qm run")

    assert "100755" in store.git("ls-tree", result.head.commit, "run.sh")


async def test_directory_that_is_moved_and_replaced_by_a_link(
    git_project: GitProject, store: GitProject, deed: Deed
) -> None:
    git_project.commit({"backend/app.py": "x\n"})
    result = await deed("mkdir src; mv backend src/backend; ln -s src/backend backend")

    assert not result.refusal
    assert {"backend", "src/backend/app.py"} <= set(store.files(result.head.commit))


@pytest.mark.parametrize(
    "links",
    [
        "mkdir -p a/b; ln -s .. a/b/up; ln -s a/b/up/../../outside x",
        "ln -s lib/misc x",
        "mkdir .git/data; echo d > .git/data/d; ln -s .git/data x",
        'ln -s "$PWD/readme.md" x',
        'ln -s "../${PWD##*/}/readme.md" x',
        'ln -s "$PWD" a; ln -s b x; ln -s a/readme.md b',
        "mkdir -p a/b; ln -s b/.. a/c; ln -s a/c/../../readme.md x",
        "git init -q in; ln -s .. in/b; ln -s b/../readme.md in/x",
    ],
)
async def test_link_that_leads_out_by_another_link_is_refused(
    git_project: GitProject, deed: Deed, links: str
) -> None:
    (git_project.root / "lib").symlink_to("/usr/share")
    git_project.commit({"q": "q\n"})
    result = await deed(f"{links}; echo n > new")

    assert "x ->" in result.refusal


async def test_link_that_leads_out_since_the_folder_on_its_way_became_a_link_is_refused(
    git_project: GitProject, deed: Deed
) -> None:
    write(git_project.root, {"a/lib/f": "f\n", "a/out": "o\n"})
    (git_project.root / "a/x").symlink_to("lib/../../a/out")
    (git_project.root / "a/old").symlink_to("/etc/hosts")
    git_project.commit({})
    result = await deed("rm -r a/lib; ln -s .. a/lib")

    assert "a/x ->" in result.refusal
    assert "a/old" not in result.refusal


async def test_commit_that_only_an_annotated_tag_holds_is_kept(
    store: GitProject, deed: Deed
) -> None:
    result = await deed(
        "echo w > w; git add -A; git commit -qm w; git tag -a t -m t; git reset -q --hard HEAD~1;"
        " rm -rf .git/logs; echo n > n"
    )

    assert any("t" in remark for remark in result.remarks)
    left = store.git("for-each-ref", "--format=%(refname)", f"refs/agog/{NUMBER}/left").split()
    assert any("w" in store.files(ref) for ref in left)


@pytest.mark.parametrize(
    "width", ["echo '* conflict-marker-size=15' > .git/info/attributes", "git rm -q .gitattributes"]
)
async def test_markers_whose_width_no_attribute_of_the_result_tells(
    git_project: GitProject, deed: Deed, width: str
) -> None:
    git_project.commit({".gitattributes": "*.txt conflict-marker-size=12\n"})
    result = await deed(
        f"{width.replace('git rm', 'true')}; git checkout -q -b t; echo theirs > shared.txt;"
        " git commit -qam t; git checkout -q -; echo ours > shared.txt; git commit -qam o;"
        f" git merge -q t || true; {width}; git add -A; git commit -qm merged"
    )

    assert "shared.txt" in result.conflicts


async def test_text_about_conflicts_may_be_renamed(
    git_project: GitProject, store: GitProject, deed: Deed
) -> None:
    text = "How a conflict looks:\n<<<<<<< ours\na\n=======\nb\n>>>>>>> theirs\nThat is all.\n"
    git_project.commit({"docs/c.md": text})
    result = await deed("git mv docs/c.md docs/conflicts.md; echo More. >> docs/conflicts.md")

    assert not result.conflicts
    assert "docs/conflicts.md" in store.files(result.head.commit)


async def test_worktree_beside_the_clone_is_kept_before_it_goes_with_the_requirement(
    store: GitProject, deed: Deed
) -> None:
    await deed("git worktree add -q ../side -b side; echo w > ../side/w; echo n > n")

    left = store.git("for-each-ref", "--format=%(refname)", f"refs/agog/{NUMBER}/left").split()
    assert any("w" in store.files(ref) for ref in left)


async def test_file_of_a_worktree_that_git_cannot_encode_is_kept_and_told(
    git_project: GitProject, store: GitProject, deed: Deed
) -> None:
    git_project.commit({".gitattributes": "*.rc text working-tree-encoding=UTF-16\n"})
    result = await deed(
        "git worktree add -q tree -b side; printf abc > tree/a.rc; echo w > tree/w; echo n > n"
    )

    assert any("cannot take a.rc" in remark for remark in result.remarks)
    left = store.git("for-each-ref", "--format=%(refname)", f"refs/agog/{NUMBER}/left").split()
    assert any({"a.rc", "w"} <= set(store.files(ref)) for ref in left)


@pytest.mark.parametrize("key", ["transfer.hideRefs", "uploadpack.hideRefs"])
async def test_refs_that_the_user_hides_from_others_are_seen(
    workspaces: GitWorkspaces, git_project: GitProject, key: str
) -> None:
    git_project.git("config", key, "refs")
    await workspaces.open(NUMBER)
    commit = git_project.commit({"later": "l\n"})

    head, _ = await workspaces.open("REQ-2")

    assert head.commit == commit


# --- what nobody has changed ----------------------------------------------------------------------


@pytest.fixture
def unnormalised(git_project: GitProject) -> None:
    """A file whose line ends are older than the attribute that forbids them."""
    file = git_project.root / "w.txt"
    file.write_bytes(b"a\r\nb\r\n")
    os.utime(file, (1e9, 1e9))  # so that git need not look whether it has changed
    git_project.commit({})
    git_project.commit({".gitattributes": "*.txt text\n"})
    assert git_project.git("cat-file", "-s", "HEAD:w.txt") == "6"


@pytest.mark.parametrize("touch", ["true", "touch w.txt", "cp w.txt x; mv x w.txt"])
async def test_file_that_attributes_would_change_is_no_change_of_an_idle_agent(
    unnormalised: None, git_project: GitProject, deed: Deed, touch: str
) -> None:
    result = await deed(touch)

    assert not result.changed
    assert result.head.commit == git_project.git("rev-parse", "main")


async def test_file_that_attributes_would_change_is_changed_by_whoever_means_it(
    unnormalised: None, store: GitProject, deed: Deed
) -> None:
    result = await deed("git add --renormalize . && git commit -qm renormalised")

    assert result.changed
    assert store.git("cat-file", "-s", f"{result.head.commit}:w.txt") == "4"


async def test_file_that_attributes_would_change_is_changed_by_whoever_stages_it(
    unnormalised: None, store: GitProject, deed: Deed
) -> None:
    result = await deed("git add --renormalize .")

    assert store.git("cat-file", "-s", f"{result.head.commit}:w.txt") == "4"


@pytest.fixture
def with_ident(git_project: GitProject) -> None:
    """Files whose `$Id$` git expands: one was committed before the attribute was there."""
    write(git_project.root, {"old.c": "$Id: 0123abc $\none\n", "lib.c": "$Id$\none\n"})
    git_project.shell("touch -d 2001-01-01 *.c")  # so that git need not look whether they changed
    git_project.commit({})
    git_project.commit({".gitattributes": "*.c ident\n"})
    assert git_project.text("HEAD", "old.c").startswith("$Id: 0123abc $")


@pytest.mark.parametrize("touch", ["true", "touch *.c", "for f in *.c; do cp $f x; mv x $f; done"])
async def test_identifiers_that_git_expands_are_no_change_of_an_idle_agent(
    with_ident: None, deed: Deed, touch: str
) -> None:
    result = await deed(touch)

    assert not result.changed


@pytest.mark.parametrize("end", ["true", "git add -A; git commit -qm work"])
async def test_identifiers_that_git_expands_are_stored_and_arrive_as_git_itself_has_them(
    with_ident: None,
    workspaces: GitWorkspaces,
    git_project: GitProject,
    store: GitProject,
    deed: Deed,
    end: str,
) -> None:
    edit = (
        "echo two >> lib.c; echo two >> old.c; printf '$Id: copied $\\n' > new.c; "
        "printf '$Id: 1 $\\r\\n' > crlf.c"
    )
    result = await deed(f"{edit}; {end}")
    git_project.git("clone", "--quiet", str(git_project.root), "../by hand")
    by_hand = GitProject(git_project.root.parent / "by hand")
    by_hand.shell(f"{edit}; git add -A")

    assert store.git("rev-parse", f"{result.head.commit}^{{tree}}") == by_hand.git("write-tree")
    assert await workspaces.swap_target(NUMBER, "main", result.head.commit)
    git_project.shell("touch *.c")
    assert git_project.git("status", "--porcelain") == ""


async def test_merged_branch_of_ones_own_without_a_change_is_none(deed: Deed) -> None:
    result = await deed(
        "git switch -qc mine; git commit -q --allow-empty -m empty; git switch -q -; "
        "git merge -q --no-ff -m merged mine"
    )

    assert not result.changed


async def test_markers_below_a_width_that_the_agent_has_just_set_are_found(deed: Deed) -> None:
    result = await deed(
        "echo '*.txt conflict-marker-size=40' > .gitattributes; "
        "printf '<<<<<<< a\none\n=======\ntwo\n>>>>>>> b\n' > shared.txt"
    )

    assert result.conflicts == ("shared.txt",)


async def test_line_between_two_sides_that_a_merge_has_left_is_found(deed: Deed) -> None:
    result = await deed(
        "git switch -qc other; echo theirs > shared.txt; git commit -qam theirs; git switch -q -; "
        "echo ours > shared.txt; git commit -qam ours; git merge -q other; "
        "sed -i '/^[<>]/d' shared.txt; git commit -qam merged; git branch -D other"
    )

    assert result.conflicts == ("shared.txt",)


@pytest.mark.parametrize("title", ["=======\\nNews in\\n=======", "Usage\\n======="])
async def test_title_that_comes_with_a_merge_is_no_conflict(deed: Deed, title: str) -> None:
    result = await deed(
        "git switch -qc other; echo theirs > other.txt; git add -A; git commit -qm theirs; "
        f"git switch -q -; printf '{title}\\n' > shared.txt; git commit -qam ours; "
        "git merge -q -m merged other"
    )

    assert not result.conflicts


async def test_clone_that_became_a_link_is_red_and_nothing_beyond_it_is_touched(
    workspaces: GitWorkspaces, git_project: GitProject, tmp_path: Path
) -> None:
    request, clone = await begin(workspaces)
    other = tmp_path / "other"
    write(other, {"theirs": "x"})
    os.mkfifo(other / "pipe")
    clone.shell(f'cd .. && rm -rf "{clone.root}" && ln -s "{other}" "{clone.root}"')

    result = await workspaces.integrate(request, "done")
    await workspaces.release(NUMBER)

    assert "removed its working copy" in result.refusal
    assert not result.changed
    assert sorted(os.listdir(other)) == ["pipe", "theirs"]


@pytest.mark.parametrize("path", ["../../out", "/out", "", ".", "docs/../.."])
async def test_submodule_that_an_agent_declares_outside_of_the_tree_breaks_no_later_clone(
    workspaces: GitWorkspaces, deed: Deed, path: str
) -> None:
    result = await deed(f'printf \'[submodule "x"]\\n\\tpath = "{path}"\\n\' >.gitmodules')

    head = await workspaces.head(NUMBER)
    place = await workspaces.checkout_build(NUMBER, "backend", head.commit, clean=True)
    assert (Path(place) / ".gitmodules").exists() == (not result.refusal)


def nest(root: Path, levels: int, name: str) -> None:
    """Folders in each other, the last one with a file."""
    place = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=place)
        below = os.open(name, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(os.open("deep.txt", os.O_CREAT, dir_fd=place))
    os.close(place)


@pytest.mark.parametrize(
    ("levels", "name", "refusal"), [(1200, "d", ""), (40, "d" * 200, "nested so deeply")]
)
async def test_folders_nested_deeper_than_paths_may_be_are_red_or_taken_and_removed(
    workspaces: GitWorkspaces, store: GitProject, levels: int, name: str, refusal: str
) -> None:
    request, clone = await begin(workspaces)
    nest(clone.root, levels, name)
    write(clone.root, {"beside.txt": "x"})

    try:
        result = await workspaces.integrate(request, "done")
        await workspaces.release(NUMBER)
    except BaseException:  # what is left would stop pytest's own cleaning up
        store.shell(f"rm -rf '{clone.root}'")
        raise

    assert refusal in result.refusal
    assert bool(refusal) == bool(result.refusal)
    assert "beside.txt" in store.files(result.commit)
    assert not exists(clone.root)
