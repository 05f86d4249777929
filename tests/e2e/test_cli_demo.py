import json
import shutil
import signal
import subprocess
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

from tests.e2e.conftest import Cli, until
from tests.eventually import PATIENCE_SECONDS
from tests.stack_usage import processes_naming

FOREIGN = {
    "NATS_URL": "nats://foreign.invalid:1",
    "TEMPORAL_ADDRESS": "foreign.invalid:1",
    "DATABASE_URL": "postgresql+psycopg://foreign.invalid/x",
    "PROJECT_ROOT": "/nonexistent",
    "ENABLE_PARALLEL_EXECUTION": "false",
    "MAX_PARALLEL_STAGES": "none",
    "GIT_DIR": "/nonexistent",
}
"""A shell in which nothing of the demonstration would work."""


@pytest.fixture
def demo_cli(bare_cli: Cli, tmp_path: Path) -> Cli:
    return Cli({**bare_cli.environment, **FOREIGN, "TMPDIR": str(tmp_path)}, tmp_path)


def test_demo_delivers_and_stays_up_to_be_looked_at(demo_cli: Cli) -> None:
    with demo_cli.open("demo", "--keep", "--json") as demo:
        assert demo.stdout
        assert demo.stderr
        printed = until_line(demo.stdout, "}\n")
        said = until_line(demo.stderr, "Ctrl-C ends it.\n")
        assert said.endswith("Ctrl-C ends it.\n"), f"it has ended: {said}"
        document = json.loads(printed)
        root = Path(document["project"]).parent
        status = look(demo_cli, said, "status", document["req_number"], "--json")
        commits = log(document["store"], document["branch"])
        delivered = log(document["project"], "main")
        demo.send_signal(signal.SIGINT)
        _, rest = demo.communicate(timeout=PATIENCE_SECONDS)

    assert demo.returncode == 0, said + rest
    check_document(document)
    assert status["state"] == "DELIVERED"
    assert commits == delivered
    number = document["req_number"]
    assert f"{number} Backend Implementation: greet() knows three languages" in commits
    assert document["web_ui"] in said
    assert processes_naming(str(root)) == []
    assert root.exists()
    shutil.rmtree(root)


def until_line(stream: IO[str], last: str) -> str:
    """What is said up to that line, or up to the end."""
    said = ""
    for line in stream:
        said += line
        if line == last:
            break
    return said


def check_document(document: dict[str, Any]) -> None:
    assert list(document) == [
        "schema_version", "req_number", "state", "pipeline", "mode", "sequential_seconds",
        "parallel_seconds", "percentage_saved", "stages", "fixes", "web_ui", "project", "branch",
        "store",
    ]  # fmt: skip
    assert (document["schema_version"], document["state"]) == (1, "DELIVERED")
    assert (document["mode"], document["pipeline"]) == ("parallel", "standard")
    assert 0 < document["parallel_seconds"] < document["sequential_seconds"]
    stages = {stage["stage"]: stage for stage in document["stages"]}
    assert list(stages["Research"]) == ["stage", "agent", "state", "started_at", "ended_at"]
    assert overlap(stages["Backend Implementation"], stages["Frontend Implementation"])
    assert overlap(stages["Backend QA"], stages["Frontend QA"])
    assert not overlap(stages["Research"], stages["Critique"])
    assert stages["Security Testing"]["state"] == "completed"
    assert stages["Performance Testing"]["state"] == "skipped"
    assert document["fixes"] == []


def overlap(one: dict[str, str], other: dict[str, str]) -> bool:
    start = max(datetime.fromisoformat(stage["started_at"]) for stage in (one, other))
    end = min(datetime.fromisoformat(stage["ended_at"]) for stage in (one, other))
    return start < end


def look(cli: Cli, said: str, *arguments: str) -> dict[str, Any]:
    """Run a command as the demonstration says that one may."""
    lines = [line.split("export ")[1] for line in said.splitlines() if "export " in line]
    variables = dict(line.split("=", 1) for line in lines)
    environment = {name: cli.environment[name] for name in ("PATH", "HOME")}
    answer = Cli({**environment, **variables}, cli.directory)(*arguments)
    assert answer.code == 0, answer.err
    document: dict[str, Any] = answer.document
    return document


def log(project: str, branch: str) -> str:
    done = subprocess.run(
        ("git", "log", "--format=%s", branch), cwd=project, check=True, capture_output=True
    )
    return done.stdout.decode()


def is_in_order(text: str, first: str, second: str) -> bool:
    return 0 <= text.find(first) < text.find(second)


def test_a_broken_build_is_shown_and_repaired_before_it_is_tested(demo_cli: Cli) -> None:
    said = demo_cli("demo", "--break-build")

    assert said.code == 0, said.err
    assert "❌ build backend (roy): SyntaxError" in said.err
    assert is_in_order(said.err, "REQ-DEMO-1-FIX-1 (roy) DELIVERED", "Backend QA (billy) running")
    assert "build backend (roy)\n    SyntaxError" in said.out
    assert "Fix build backend (roy)" in said.out
    assert "REQ-DEMO-1 is DELIVERED" in said.out
    left = [path for path in demo_cli.directory.iterdir() if path.name.startswith("agog-demo")]
    assert left == []
    assert processes_naming(str(demo_cli.directory)) == []


def test_a_conflict_and_a_review_are_repaired_in_one_demonstration(demo_cli: Cli) -> None:
    said = demo_cli("demo", "--conflict", "--request-changes", "--json")

    assert said.code == 0, said.err
    document = said.document
    assert document["state"] == "DELIVERED"
    [fix] = document["fixes"]
    assert fix["gate"] in ("merge Backend Implementation", "merge Frontend Implementation")
    assert (fix["parent"], fix["state"]) == ("REQ-DEMO-1", "DELIVERED")
    assert "Conflict in README.md" in said.err
    assert "Research (cynthia, attempt 2) completed" in said.err


def test_a_demo_that_kills_itself_repeats_and_loses_nothing(demo_cli: Cli) -> None:
    said = demo_cli("demo", "--kill")

    assert said.code == 0, said.err
    assert "kill -9 worker, while roy and jen work." in said.err
    assert "kill -9 nats, postgres, temporal, worker, while roy and jen work." in said.err
    assert "1 start, 1 run, 0 stages repeated, 0 events lost" in said.out
    assert "REQ-DEMO-1 is DELIVERED" in said.out
    assert "demo --keep" in said.err
    assert processes_naming(str(demo_cli.directory)) == []
    assert [path for path in demo_cli.directory.iterdir() if "agog-demo" in path.name] == []


def test_a_demo_that_kills_itself_stands_alone(demo_cli: Cli) -> None:
    said = demo_cli("demo", "--kill", "--conflict")

    assert (said.code, "--kill stands alone, without --conflict" in said.err) == (2, True)


def has_agent(below: Path) -> bool:
    """Whether an agent of that demonstration runs; others may run on the same machine."""
    for process in processes_naming("demo/agent.py"):
        with suppress(psutil.NoSuchProcess):
            if Path(process.cwd()).is_relative_to(below):
                return True
    return False


def test_an_interrupted_demo_leaves_no_agent_behind(demo_cli: Cli) -> None:
    with demo_cli.open("demo") as demo:
        until(lambda: has_agent(demo_cli.directory) or demo.poll() is not None, "an agent")
        demo.send_signal(signal.SIGINT)
        _, err = demo.communicate(timeout=PATIENCE_SECONDS)

    assert demo.returncode == 130, err
    assert "CANCELLED" in err
    assert processes_naming(str(demo_cli.directory)) == []
    assert [path for path in demo_cli.directory.iterdir() if "agog-demo" in path.name] == []
