"""What agents are told, from research to a fix, and the command that shows it."""

import re
from pathlib import Path

from adapters.runs import records
from pipeline.model import RequirementState
from tests.e2e.conftest import Cli
from tests.eventually import eventually
from tests.orchestra import Orchestra
from tests.orchestra_plans import FIVE, SOLO, repaired


def documents(prompt: str) -> dict[str, Path]:
    """The documents that a prompt names, by their file's name."""
    found = map(Path, re.findall(r"^- `([^`]+)` \([\d,]+ bytes\)", prompt, re.M))
    return {path.name: path for path in found}


async def test_documents_and_logs_go_from_agent_to_agent_and_prompts_are_shown(
    orchestra: Orchestra,
) -> None:
    puppets, number = orchestra.puppets, orchestra.number
    fix = f"{number}-FIX-1"
    cli = Cli(orchestra.environment, orchestra.home.parent)
    orchestra.project.commit({".agog/prompts/billy.md": "Test it on a small screen, too."})
    puppets.task("cynthia", documents={"research.md": "Two files change."})
    puppets.task("roy", documents={"notes/api.md": "The backend answers in JSON."})
    puppets.task("backend", exit_code=1, says="error TS2345: no overload\n")
    puppets.hold("roy", f"{fix}.roy")
    await orchestra.worker.start()
    handle = await orchestra.start(repaired(FIVE))
    await eventually(lambda: puppets.living("roy") != [], "roy")

    # Of one that runs: what it was told, from the file that its supervisor fed it with.
    told = cli("prompt", number, "roy")
    assert told.code == 0, told.err
    assert told.out == orchestra.run("backend-implementation-1").file(records.PROMPT).read_text()
    assert documents(told.out)["research.md"].read_text() == "Two files change."
    assert "What roy was told (Backend Implementation, attempt 1)" in told.err
    # Of one that did not run: what it would be told, and nothing is made for it.
    ahead = cli("prompt", number, "Backend QA", "--json").document
    assert (ahead["agent"], ahead["attempt"], ahead["was_told"]) == ("billy", 1, False)
    assert "> Test it on a small screen, too." in ahead["prompt"]
    assert not documents(ahead["prompt"])["research.md"].exists()
    for arguments, host, code, why in (
        (("REQ-none", "roy"), "", 3, "There is no requirement REQ-none."),
        ((number, "todd"), "", 3, "has no stage 'todd'. Stages: Research"),
        ((number, "roy", "--attempt", "2"), "", 3, "has no attempt 2"),
        ((number, "roy", "--attempt", "1", "--now"), "", 2, "not both"),
        ((number, "roy"), "other", 3, f"ran on host {orchestra.name}, where its prompt is"),
        ((number, "billy"), "other", 3, f"is on host {orchestra.name}"),
    ):
        refused = cli("prompt", *arguments, AGOG_HOST=host or orchestra.name)
        assert (refused.code, refused.out) == (code, ""), refused.err
        assert why in refused.err

    puppets.release("roy")
    await eventually(lambda: puppets.starts("roy", fix) == 1, "the fix")
    repair = cli("prompt", fix, "roy").out
    assert f"This is a fix for {number}" in repair
    assert "error TS2345" in documents(repair)["build-backend.log"].read_text()
    assert documents(repair)["research.md"].read_text() == "Two files change."
    assert documents(repair)["api.md"].read_text() == "The backend answers in JSON."
    puppets.task("backend")
    puppets.release(f"{fix}.roy")
    assert (await handle.result()).state is RequirementState.DELIVERED

    # The same prompt that was seen ahead is the one that billy got: but for what came since.
    tested = cli("prompt", number, "billy").out
    assert "> Test it on a small screen, too." in tested
    assert {"research.md", "api.md"} <= documents(tested).keys()
    merged = orchestra.project.git("log", "--all", "--name-only", "--format=", "main")
    assert not {"research.md", "api.md", "build-backend.log"} & {
        Path(name).name for name in merged.split()
    }
    orchestra.run("research-1").file(records.PROMPT).unlink()
    gone = cli("prompt", number, "cynthia")
    assert (gone.code, "is gone" in gone.err) == (3, True), gone.err


async def test_a_requirement_that_no_host_has_taken_shows_what_will_be_told(
    orchestra: Orchestra,
) -> None:
    await orchestra.accept(SOLO, number=orchestra.number)

    shown = Cli(orchestra.environment, orchestra.home.parent)("prompt", orchestra.number, "roy")

    assert shown.code == 0, shown.err
    assert "You are roy. Stage: Backend Implementation." in shown.out
    assert "would be told now, before it starts" in shown.err
    assert not orchestra.home.exists()
