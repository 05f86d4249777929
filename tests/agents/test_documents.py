"""What real programs may read and write beside their clone, with which permission."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.agent_programs import Permission
from tests.agents.programs import installed
from tests.agents.scenarios import FROM_NPM, NOTICE, SCENARIOS, play
from tests.agents.stand_ins import Read, Write
from tests.fixtures_runs import Bench

pytestmark = pytest.mark.agents


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A place outside of the directories for temporary files, where Codex may always write."""
    place = Path(tempfile.mkdtemp(prefix="test-", dir=installed().parent.parent))
    yield place
    shutil.rmtree(place)


@pytest.mark.parametrize("permission", [Permission.READ, Permission.EDIT])
@pytest.mark.parametrize("kind", FROM_NPM)
async def test_documents_of_others_are_read_and_own_ones_written(
    kind: str, permission: Permission, clone: Path, elsewhere: Path
) -> None:
    runs = Bench(elsewhere / "home")
    run = runs.directory(runs.order())
    run.inbox.mkdir(parents=True)
    document = run.inbox / "research.md"
    document.write_text("Two files change.")
    turns = (
        Read(str(document)),
        Write(str(run.outbox / "plan.md"), "First this.\n"),
        Write(str(elsewhere / "stray.md"), "Not for me.\n"),
        Write(str(clone / "product.md"), "New.\n"),
        NOTICE,
    )
    scenario = replace(SCENARIOS[f"{kind} works"], turns=turns, agent={"permission": permission})

    _, api = await play(scenario, runs, clone)

    assert "Two files change." in json.dumps(api.requests[-1].body)
    is_sandboxed = kind == "codex" and permission is Permission.READ
    assert (run.outbox / "plan.md").exists() != is_sandboxed
    assert not (elsewhere / "stray.md").exists()
    assert (clone / "product.md").exists() == (permission is Permission.EDIT)
