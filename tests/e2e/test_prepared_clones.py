"""An agent runs the project's own tests in its clone, whatever happens while that is prepared."""

import json
from pathlib import Path

from adapters.current_agents import read_in_use
from pipeline.model import RequirementState
from tests.eventually import eventually
from tests.fixtures_runs import is_running
from tests.fixtures_workspaces import exists
from tests.orchestra import Orchestra
from tests.orchestra_plans import BACKEND, SOLO

MAKEFILE = """
deps:
\techo $$$$ >>{log}
\twhile test -e {held}; do sleep 0.02; done
\tmkdir -p node_modules/.bin
\tprintf '#!/bin/sh\\ntest -f backend/new.txt' >node_modules/.bin/tests
\tchmod +x node_modules/.bin/tests
test:
\tnode_modules/.bin/tests
"""
ROY = """
make test && exit 1
echo new >backend/new.txt
make test || exit 1
touch "$TMPDIR/mine"
echo "$AGOG_PORT_BASE $TMPDIR" >{seen}
printf '```json\\n%s, "req_number": "%s"}}\\n```\\n' '{said}' "$AGOG_REQUIREMENT"
"""
SAID = json.dumps({"agent": "roy", "status": "COMPLETE", "summary": "Its test is green."})[:-1]


def equip(orchestra: Orchestra, place: Path) -> Path:
    """A project without a package manager that ignores nothing; roy tests what he does."""
    log, held, seen = place / "prepared", place / "held", place / "seen"
    held.touch()
    orchestra.project.commit({"Makefile": MAKEFILE.format(log=log, held=held)})
    (place / "roy.sh").write_text(ROY.format(seen=seen, said=SAID))
    file = place / "agents.toml"
    file.write_text(
        f'[agents.roy]\ncommand = ["sh", {json.dumps(str(place / "roy.sh"))}]\n'
        '[builds.backend]\ndirectory = "."\ncommand = ["make", "test"]\n'
        'prepare = ["make", "deps"]\n'
    )
    return file


def pids(place: Path) -> list[int]:
    """Processes that have begun to prepare, in their order."""
    log = place / "prepared"
    return list(map(int, log.read_text().split())) if log.exists() else []


async def test_an_agent_tests_in_a_clone_that_two_workers_and_a_broken_edit_prepare(
    orchestra: Orchestra, tmp_path: Path
) -> None:
    place = tmp_path / "scripts"
    place.mkdir()
    file = equip(orchestra, place)
    await orchestra.worker.start(AGOG_AGENTS_FILE=str(file))
    await orchestra.start(SOLO)
    shown = await orchestra.until_shown(BACKEND, lambda stage: stage.is_preparing)
    assert (shown.starts, shown.prepared) == (0, ("backend",))
    await eventually(lambda: len(pids(place)) == 1, "it is being prepared")

    orchestra.worker.kill()
    await eventually(lambda: not is_running(pids(place)[0]), "its prepare has ended with it")
    await orchestra.worker.start(AGOG_AGENTS_FILE=str(file))
    await eventually(lambda: len(pids(place)) == 2, "it is being prepared again")
    file.write_text("[agents.roy\n")

    def is_told() -> bool:
        in_use = read_in_use(orchestra.home)
        return bool(in_use and in_use.problem)

    await eventually(is_told, "the broken edit is told")
    (place / "held").unlink()
    await orchestra.until_state(RequirementState.DELIVERED)

    stage = await orchestra.stage(BACKEND)
    assert (stage.attempt, stage.starts) == (1, 1)
    base, temporary = (place / "seen").read_text().split()
    assert int(base) >= 20_000
    assert not exists(temporary)
    delivered = orchestra.project.files("main")
    assert "backend/new.txt" in delivered
    assert not [name for name in delivered if "node_modules" in name]
    types = [event["eventType"] for event in await orchestra.events()]
    assert [kind for kind in types if kind.startswith("stage.")] == [
        "stage.started",
        "stage.preparing",
        "stage.prepared",
        "stage.completed",
    ]
    assert "The agents file was edited and cannot be used" in orchestra.worker.log
