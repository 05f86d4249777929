"""What `prepare` leaves in an agent's clone is not the agent's work."""

import subprocess
from pathlib import Path

import pytest

from adapters.git import GitWorkspaces
from adapters.git.clone import CheckedOut, Clone, checked_out
from adapters.git.prepared_files import begin_preparing, note_prepared
from adapters.locks import Locks
from pipeline.model import StageRequest
from tests.fixtures_workspaces import NUMBER, GitProject, exists, stage_request, write

LOCK = "the lock as the project has it\n"


@pytest.fixture
def git_project(tmp_path: Path) -> GitProject:
    """A project that ignores nothing."""
    project = GitProject(tmp_path / "my project").init()
    files = {"web/package.json": "{}", "web/package-lock.json": LOCK, "app.js": "1", "old.js": "1"}
    project.commit(files)
    return project


@pytest.fixture
async def request_at_work(workspaces: GitWorkspaces) -> StageRequest:
    head, _ = await workspaces.open(NUMBER)
    return stage_request(head)


@pytest.fixture
async def clone(workspaces: GitWorkspaces, request_at_work: StageRequest, state_home: Path) -> Path:
    """A clone in which a `prepare` has come to its end that wrote a bit of everything."""
    clone = Path(await workspaces.prepare(request_at_work))
    await prepare(clone, state_home, "")
    return clone


def shell(script: str, clone: Path) -> None:
    subprocess.run(["sh", "-c", script], cwd=clone, check=True)


def parts(home: Path, clone: Path) -> tuple[CheckedOut, Clone]:
    found = checked_out(home.resolve(), clone, Locks(home / "locks"))
    assert found
    return found


async def prepare(clone: Path, home: Path, script: str) -> None:
    made, ours = parts(home, clone)
    begin_preparing(ours.private)
    write(
        clone,
        {
            "web/node_modules/left-pad/index.js": "x",
            "web/node_modules/.bin/tool": "x",
            "web/package-lock.json": "the lock as npm writes it\n",
            "generated/client.ts": "made",
            "generated/[odd] name .ts": "made",
            ".env": "made",
            "tools/environment/pyvenv.cfg": "home = /usr",
            "tools/environment/lib/site.py": "x",
        },
    )
    (clone / "tools/environment/python").symlink_to("/usr/bin/python3")
    (clone / "old.js").unlink()
    shell(script, clone)
    await note_prepared(ours, made.commit, (("npm", "ci"),))


async def test_what_prepare_wrote_is_not_merged_and_counts_for_no_change(
    workspaces: GitWorkspaces, store: GitProject, request_at_work: StageRequest, clone: Path
) -> None:
    result = await workspaces.integrate(request_at_work, "done")

    assert (result.changed, result.refusal, result.remarks) == (False, "", ())
    assert store.text(result.head.commit, "web/package-lock.json") + "\n" == LOCK
    assert sorted(store.files(result.head.commit)) == [
        "app.js",
        "old.js",
        "web/package-lock.json",
        "web/package.json",
    ]


async def test_what_the_agent_changes_or_adds_beside_it_is_its_work(
    workspaces: GitWorkspaces, store: GitProject, request_at_work: StageRequest, clone: Path
) -> None:
    write(
        clone,
        {
            "generated/client.ts": "by hand",
            "generated/more.ts": "by hand",
            "web/package-lock.json": "with a new package\n",
            "web/node_modules/another/index.js": "x",
            "tools/run.sh": "by hand",
        },
    )

    result = await workspaces.integrate(request_at_work, "done")

    assert sorted(store.files(result.commit)) == [
        "app.js",
        "generated/client.ts",
        "generated/more.ts",
        "old.js",
        "tools/run.sh",
        "web/package-lock.json",
        "web/package.json",
    ]
    assert store.text(result.commit, "web/package-lock.json") == "with a new package"


async def test_the_agents_own_git_does_not_see_it_but_can_be_forced_to(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    store: GitProject,
    request_at_work: StageRequest,
    clone: Path,
) -> None:
    seen = git_project.git("status", "--porcelain", at=clone)
    write(clone, {"mine.js": "1"})
    git_project.git("add", "--all", at=clone)
    git_project.git("add", "--force", "generated/client.ts", at=clone)
    git_project.git("commit", "--quiet", "--message", "mine", at=clone)

    result = await workspaces.integrate(request_at_work, "done")

    assert sorted(seen.split()) == ["D", "M", "old.js", "web/package-lock.json"]
    assert sorted(store.files(result.commit)) == [
        "app.js",
        "generated/client.ts",
        "mine.js",
        "old.js",
        "web/package-lock.json",
        "web/package.json",
    ]
    assert store.text(result.commit, "web/package-lock.json") + "\n" == LOCK


async def test_a_link_in_the_place_of_the_exclude_file_is_not_followed(
    workspaces: GitWorkspaces, state_home: Path, request_at_work: StageRequest, tmp_path: Path
) -> None:
    clone = Path(await workspaces.prepare(request_at_work))
    theirs = tmp_path / "theirs"
    theirs.write_text("mine\n")

    await prepare(clone, state_home, f"mkdir -p .git/info && ln -sf '{theirs}' .git/info/exclude")

    assert theirs.read_text() == "mine\n"
    result = await workspaces.integrate(request_at_work, "done")
    assert not result.changed


async def test_a_clone_that_was_prepared_by_half_is_made_again(
    workspaces: GitWorkspaces, state_home: Path, request_at_work: StageRequest, clone: Path
) -> None:
    assert await workspaces.prepare(request_at_work) == str(clone)
    assert exists(clone / "web/node_modules")
    begin_preparing(parts(state_home, clone)[1].private)

    assert await workspaces.prepare(request_at_work) == str(clone)
    assert not exists(clone / "web/node_modules")
    await workspaces.discard(request_at_work)
    assert not exists(clone)


@pytest.mark.parametrize("commits_itself", [True, False])
async def test_who_changed_a_manifest_last_is_found_in_this_requirement_only(
    workspaces: GitWorkspaces, git_project: GitProject, commits_itself: bool
) -> None:
    head, _ = await workspaces.open(NUMBER)
    for agent, files in (("roy", {"web/package.json": "{1}"}), ("billy", {"test.js": "1"})):
        request = stage_request(head, f"Work of {agent}", agent=agent)
        clone = Path(await workspaces.prepare(request))
        write(clone, files)
        if commits_itself:
            git_project.git("add", "--all", at=clone)
            shell("git commit --quiet --message mine", clone)
        head = (await workspaces.integrate(request, "done")).head

    async def last(*paths: str) -> str:
        return await workspaces.last_author(NUMBER, head.commit, paths)

    assert await last("web/package.json") == "roy"
    assert await last("web/*.lock", "web/package*.json") == "roy"
    assert await last("test.js", "web/package.json") == "billy"
    assert await last("web/package-lock.json", "app.js", "none") == ""
    assert await last() == ""


LARGE = "mkdir -p made && cd made && for n in $(seq 0 600); do echo $n >f$n; done"


async def test_what_the_agent_writes_into_a_large_folder_of_prepare_is_its_work(
    workspaces: GitWorkspaces, store: GitProject, request_at_work: StageRequest, state_home: Path
) -> None:
    clone = Path(await workspaces.prepare(request_at_work))
    await prepare(clone, state_home, LARGE)
    before = set(store.files(request_at_work.head.commit)) if request_at_work.head else set()
    write(clone, {"made/f7": "by hand", "made/deep/new.js": "by hand"})

    result = await workspaces.integrate(request_at_work, "done")

    assert set(store.files(result.commit)) - before == {"made/f7", "made/deep/new.js"}
    assert store.text(result.commit, "made/f7") == "by hand"


async def test_what_the_agent_writes_into_a_folder_of_packages_is_told(
    workspaces: GitWorkspaces, request_at_work: StageRequest, clone: Path
) -> None:
    write(clone, {"web/node_modules/mine/index.js": "by hand"})

    result = await workspaces.integrate(request_at_work, "done")

    assert not result.changed
    assert result.remarks == (
        "Left out, since `prepare` fills the folder: web/node_modules/mine/index.js",
    )


async def test_what_the_agent_writes_into_an_ignored_folder_of_prepare_is_told(
    workspaces: GitWorkspaces, git_project: GitProject, state_home: Path
) -> None:
    git_project.commit({".gitignore": "web/cache/\nweb/other/\n"})
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    clone = Path(await workspaces.prepare(request))
    await prepare(clone, state_home, "mkdir web/cache web/other; touch web/cache/x web/other/x")
    write(clone, {"web/cache/mine": "by hand"})

    result = await workspaces.integrate(request, "done")

    assert result.remarks == ("Left out, since it is ignored: web/cache/",)


async def test_a_file_that_prepare_has_made_a_folder_is_a_file_again(
    workspaces: GitWorkspaces, store: GitProject, request_at_work: StageRequest, state_home: Path
) -> None:
    clone = Path(await workspaces.prepare(request_at_work))
    await prepare(clone, state_home, "rm app.js && mkdir app.js && echo 1 >app.js/index")
    write(clone, {"mine.js": "by hand"})

    result = await workspaces.integrate(request_at_work, "done")

    assert {"app.js", "mine.js"} <= set(store.files(result.head.commit))


async def test_work_in_a_folder_that_was_a_file_before_prepare_is_kept(
    workspaces: GitWorkspaces, store: GitProject, request_at_work: StageRequest, state_home: Path
) -> None:
    clone = Path(await workspaces.prepare(request_at_work))
    await prepare(clone, state_home, "rm app.js && mkdir app.js && echo 1 >app.js/index")
    write(clone, {"app.js/mine": "by hand"})

    result = await workspaces.integrate(request_at_work, "done")

    assert "app.js/mine" in store.files(result.commit)


async def test_pipes_and_names_of_any_kind_that_prepare_leaves_stop_nothing(
    workspaces: GitWorkspaces, store: GitProject, request_at_work: StageRequest, state_home: Path
) -> None:
    clone = Path(await workspaces.prepare(request_at_work))
    odd = (
        "mkfifo .gitattributes web/pipe; touch \"$(printf 'caf\\351')\" \"$(printf 'a\\nb')\" ' c '"
    )
    await prepare(clone, state_home, odd)
    write(clone, {"mine.js": "by hand"})

    result = await workspaces.integrate(request_at_work, "done")

    before = store.files(request_at_work.head.commit) if request_at_work.head else []
    assert sorted(store.files(result.commit)) == sorted([*before, "mine.js"])


async def test_what_was_prepared_by_half_is_nobodys_work_to_keep(
    workspaces: GitWorkspaces, store: GitProject, request_at_work: StageRequest, state_home: Path
) -> None:
    clone = Path(await workspaces.prepare(request_at_work))
    begin_preparing(parts(state_home, clone)[1].private)
    write(clone, {".env": "TOKEN=1"})

    await workspaces.release(NUMBER)

    assert "kept" not in store.git("for-each-ref")
