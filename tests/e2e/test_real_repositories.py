"""Repositories and agents as people have them: what is delivered, and what is red.

The agents are shell scripts and the builds real commands; worker, servers and git are real too.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.sdlc.views import RequirementView
from pipeline.model import RequirementState
from tests.eventually import eventually_async
from tests.orchestra import Orchestra, explained
from tests.orchestra_plans import BACKEND, SOLO, repaired

ALLOW = "-c protocol.file.allow=always"
NOTICE = {"agent": "roy", "status": "COMPLETE", "summary": "done"}


@dataclass(frozen=True)
class Deed:
    """What roy does in his clone, on which project, and with which build."""

    script: str
    project: str = ":"
    build: str = "true"
    again: str = ""
    """What he does when he is called a second time."""


def equip(orchestra: Orchestra, deed: Deed) -> Path:
    """The agents file for the deed; what else the team does is of no interest."""
    place = orchestra.home.parent / "scripts"
    place.mkdir()
    orchestra.project.shell(f"export GIT_AUTHOR_NAME=u GIT_AUTHOR_EMAIL=u@u.invalid;{deed.project}")
    said = json.dumps(NOTICE)[:-1]
    (place / "roy.sh").write_text(
        f"if test -e '{place}/once'; then {deed.again or ':'}\nelse touch '{place}/once'\n"
        f"{deed.script}\nfi\n"
        f'printf \'```json\\n%s, "req_number": "%s"}}\\n```\\n\' \'{said}\' "$AGOG_REQUIREMENT"\n'
    )
    file = place / "agents.toml"
    file.write_text(
        f'[agents.roy]\ncommand = ["sh", {json.dumps(str(place / "roy.sh"))}]\n'
        f'[builds.backend]\ndirectory = "."\ncommand = ["sh", "-c", {json.dumps(deed.build)}]\n'
    )
    return file


async def play(
    orchestra: Orchestra, deed: Deed, state: RequirementState, *, repairs: bool = False
) -> RequirementView:
    await orchestra.worker.start(AGOG_AGENTS_FILE=str(equip(orchestra, deed)))
    await orchestra.start(repaired(SOLO) if repairs else SOLO)
    await eventually_async(lambda: rests(orchestra), f"{orchestra.number} at rest")
    view = await orchestra.view()
    assert view.state is state, explained(view)
    return view


async def rests(orchestra: Orchestra) -> bool:
    """Whether the requirement waits for a human, or has ended."""
    view = await orchestra.view()
    return view.state.is_final or view.escalation is not None


DELIVERED = {
    "files hidden by info/exclude": (
        Deed("mkdir -p .git/info notes; echo /notes/ > .git/info/exclude; echo n > notes/a"),
        "test -f notes/a",
    ),
    "a commit on the project's branch": (
        Deed("git checkout -q main; echo n > new; git add new; git commit -qm new"),
        "test -f new && git diff --quiet",
    ),
    "a sparse checkout of the user": (
        Deed(
            "echo more >> frontend/app.js; echo n > frontend/new.js; echo n > backend/n",
            project="git sparse-checkout set backend",
            build="test -f frontend/new.js && test -f frontend/app.js",
        ),
        "git show main:frontend/new.js && test -f backend/n",
    ),
    "a commit in a submodule": (
        Deed(
            "cd vendor && echo better > lib.c && git commit -qam better && cd .. && git add vendor",
            project=(
                "git init -q -b main ../library && (cd ../library && echo x > lib.c && git add -A"
                " && git -c user.name=u -c user.email=u@u.invalid commit -qm lib)"
                f' && git {ALLOW} submodule --quiet add "$PWD/../library" vendor'
                " && git -c user.name=u -c user.email=u@u.invalid commit -qm vendor"
            ),
            build="grep -q better vendor/lib.c",
        ),
        "git submodule update && grep -q better vendor/lib.c",
    ),
    "hooks and settings of the user that would turn the delivery": (
        Deed(
            "echo n > new",
            project=(
                "git config merge.verifySignatures true;"
                " git config branch.main.mergeOptions --squash;"
                " printf '#!/bin/sh\\nexit 1\\n' > .git/hooks/post-merge;"
                " chmod +x .git/hooks/post-merge"
            ),
        ),
        'test -f new && git diff --quiet && test -z "$(git diff --cached --name-only)"',
    ),
}


@pytest.mark.parametrize("what", DELIVERED)
async def test_delivered_is_what_a_fresh_clone_shows(orchestra: Orchestra, what: str) -> None:
    deed, holds = DELIVERED[what]

    view = await play(orchestra, deed, RequirementState.DELIVERED)

    project = orchestra.project
    project.shell(holds)
    assert project.git("rev-parse", "main") == view.head_commit
    built = next(gate for gate in view.gates if gate.gate == "build backend")
    assert (built.commit, built.verdict, built.clean) == (view.head_commit, "green", True)
    project.git("clone", "--quiet", str(project.root), str(orchestra.home / "fresh"))
    assert orchestra.clones() == []


RED = {
    "work on another branch": (
        Deed(
            "B=$(git symbolic-ref --short HEAD); git checkout -qb mine; echo n > new;"
            ' git add new; git commit -qm new; git checkout -q "$B"'
        ),
        "heads/mine",
    ),
    "a stash": (Deed("echo n > new; git stash -q -u"), "stash"),
    "nothing at all": (Deed(":"), "has changed no file"),
    "the markers of a conflict, committed": (
        Deed(
            "printf '<<<<<<< a\\n1\\n=======\\n2\\n>>>>>>> b\\n' > x; git add x; git commit -qm x"
        ),
        "Conflict in x",
    ),
    "a link out of the tree": (Deed("ln -s /etc backend/node_modules; echo n > new"), "/etc"),
    "a build that reads what is not in the commit": (
        Deed("mkdir dist; echo x > dist/x; echo n > new", build="test -f dist/x"),
        "The build exited with 1",
    ),
}


@pytest.mark.parametrize("what", RED)
async def test_red_names_what_is_wrong_and_moves_nothing(orchestra: Orchestra, what: str) -> None:
    deed, said = RED[what]
    before = orchestra.project.state()

    view = await play(orchestra, deed, RequirementState.BLOCKED)

    assert said in "\n".join(failure.error for failure in view.failures)
    assert orchestra.project.state() == before


async def test_what_was_left_out_or_elsewhere_is_told_beside_a_green_stage(
    orchestra: Orchestra,
) -> None:
    script = (
        "git branch mine; git checkout -q mine; echo n > other; git add other; git commit -qm o"
    )
    back = "git checkout -q -; mkdir dist; echo x > dist/x; echo n > new"

    view = await play(orchestra, Deed(f"{script}; {back}"), RequirementState.DELIVERED)

    (stage,) = view.stages
    told = "\n".join(stage.remarks)
    assert "ignored: dist/" in told
    assert "heads/mine" in told


async def test_ignored_file_of_the_user_is_safe_and_retry_delivers(orchestra: Orchestra) -> None:
    project = orchestra.project
    project.shell("echo .env >> .gitignore; git -c user.name=u -c user.email=u@u.u commit -qam i")
    project.shell("echo mine > .env")
    deed = Deed("echo theirs > .env; git add -f .env; git commit -qm env")

    view = await play(orchestra, deed, RequirementState.BLOCKED)

    assert ".env" in view.failures[0].error
    assert (project.root / ".env").read_text() == "mine\n"
    (project.root / ".env").unlink()
    await orchestra.retry(orchestra.handle(orchestra.number), "deliver")
    await orchestra.until_state(RequirementState.DELIVERED)
    assert (project.root / ".env").read_text() == "theirs\n"


async def test_what_an_earlier_build_has_generated_proves_nothing(orchestra: Orchestra) -> None:
    """The first build generates a file from `spec`; the fix deletes that, and must be red."""
    build = (
        "test ! -f spec || { mkdir -p dist; cp spec dist/gen; }; test -f dist/gen && ! test -f bad"
    )
    deed = Deed("echo s > spec; echo b > bad", build=build, again="rm -f spec bad; echo n > new")

    view = await play(orchestra, deed, RequirementState.BLOCKED, repairs=True)

    assert [gate.verdict for gate in view.gates if gate.gate == "build backend"][-1] == "red"
    assert view.fixes
    assert "new" not in orchestra.project.files("main")


async def test_project_whose_filter_is_not_allowed_is_refused_with_the_remedy(
    orchestra: Orchestra,
) -> None:
    # Before the filter is there: a git that finds its index as old as a file filters it once more.
    orchestra.project.commit({".gitattributes": "*.py filter=lfs\n"})
    project = "git config filter.lfs.clean no-such-program; git config filter.lfs.required true"
    await orchestra.worker.start(AGOG_AGENTS_FILE=str(equip(orchestra, Deed(":", project))))

    await orchestra.start(SOLO)

    view = await orchestra.until_state(RequirementState.FAILED)
    assert "AGOG_GIT_FILTERS=lfs" in view.reason
    assert view.stages[0].starts == 0
    assert view.stages[0].stage == BACKEND
