"""A team of a plan's own, with real processes, builds and repositories: the shipped monorepo."""

import sys
from pathlib import Path

import pytest

from pipeline.model import RequirementState
from tests.orchestra import Orchestra
from tests.plans import shipped

AGENTS = """
[defaults]
command = ["{python}", "{script}"]

[builds.backend]
directory = "backend"
command = ["sh", "-c", "true"]

[builds.orders]
directory = "."
command = ["test", "-f", "orders.txt"]

[builds.mobile]
directory = "."
command = ["sh", "-c", "! grep broken app.txt"]
"""

AGENT = '''
"""Every agent: mia breaks her build, then forgets what ada asks for; each fix mends one thing."""
import json, os, pathlib

agent, told = os.environ["AGOG_AGENT"], {}
app, labels = pathlib.Path("app.txt"), pathlib.Path("labels.txt")
if agent == "mia" and not app.exists():
    app.write_text("broken\\n")
    told = {"needs_ada": True}
elif agent == "mia" and "broken" in app.read_text():
    app.write_text("works\\n")
elif agent == "mia":
    labels.write_text("labelled\\n")
elif agent in ("roy", "ron"):
    pathlib.Path({"roy": "backend/new.txt", "ron": "orders.txt"}[agent]).write_text("new\\n")
elif agent in ("billy", "max"):
    told = {"test_result": "PASS"}
elif agent == "ada":
    told = {"test_result": "PASS" if labels.exists() else "FAIL", "failures": ["No labels."]}
elif agent == "sylvia":
    told = {"critique_verdict": "APPROVED"}
notice = {"agent": agent, "req_number": os.environ["AGOG_REQUIREMENT"], "status": "COMPLETE"}
print("```json\\n" + json.dumps({**notice, "summary": "Done.", **told}) + "\\n```")
'''


@pytest.mark.slow  # twelve processes, five builds; tests/flow has the same in short
async def test_a_monorepo_is_delivered_by_a_team_of_its_own(
    orchestra: Orchestra, tmp_path: Path
) -> None:
    script, file = tmp_path / "agent.py", tmp_path / "agents.toml"
    script.write_text(AGENT)
    file.write_text(AGENTS.format(python=sys.executable, script=script))
    await orchestra.worker.start(AGOG_AGENTS_FILE=str(file))

    await orchestra.start(shipped("monorepo"))
    await orchestra.until_state(RequirementState.DELIVERED)

    delivered = orchestra.project.files("main")
    assert {"backend/new.txt", "orders.txt", "app.txt", "labels.txt"} <= set(delivered)
    fixes = await orchestra.query(
        "SELECT gate, assignee FROM fixes JOIN requirements USING (number) ORDER BY number"
    )
    assert fixes == [("build mobile", "mia"), ("verdict Accessibility Testing", "mia")]
    assert (await orchestra.stage("Accessibility Testing")).attempt == 2
    assert (await orchestra.stage("Security Testing")).attempt == 1  # as skipped
    trailers = "--format=%(trailers:key=Co-authored-by,valueonly)"
    authors = orchestra.project.git("log", trailers, "main")
    assert [name for name in ("roy", "ron", "mia") if f"<{name}@" not in authors] == []
    told = orchestra.run("accessibility-testing-1").file("prompt").read_text()
    assert "> Test accessibility" in told
    mine = "agog.deliverables.ada.specialist." + orchestra.number
    assert [each["test_result"] for each in await orchestra.events(subject=mine)] == [
        "FAIL",
        "PASS",
    ]
