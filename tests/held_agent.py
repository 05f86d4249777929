"""An agent, or a build, that a test steers by files. A program of its own: standard library only.

`held_agent.py DIRECTORY agent` is any agent of the team, `held_agent.py DIRECTORY NAME` the build
of that name. It says that it has started, does what `NAME.json` tells, runs on when no `NAME.held`
is there (any more), and says that it has ended. `REQ-1.NAME` is that of one requirement alone.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LOG = "log"
GREEN = {
    "critique_verdict": "APPROVED",
    "test_result": "PASS",
    "overall": "PASS",
    "no_changes_needed": "Only what its task names was asked for.",
}
"""Of these, each role's own counts."""


def main(directory: Path, kind: str) -> int:
    is_agent = kind == "agent"
    name = os.environ["AGOG_AGENT"] if is_agent else kind
    attempt = os.environ["AGOG_ATTEMPT"] if is_agent else _checked_out()
    number = os.environ["AGOG_REQUIREMENT"]
    who = f"{number} {name} {attempt} {os.getpid()}"
    names = (f"{number}.{name}", name)
    base = _checked_out()
    # Before it says that it has started: a test that knows so may write the next one's task.
    task = next(filter(None, (_task(directory / f"{each}.json") for each in names)), {})
    _say(directory, f"start {who}")
    outbox = os.environ.get("AGOG_OUTBOX", "")
    documents = {f"{outbox}/{path}": text for path, text in task.get("documents", {}).items()}
    for path, text in {**task.get("files", {}), **documents}.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    while any((directory / f"{each}.held").exists() for each in names):
        time.sleep(0.02)
    time.sleep(task.get("seconds", 0.0))
    sys.stdout.write(task.get("says", ""))
    if is_agent:
        (directory / f"{name}.worked-on").write_text(base)
        _print_notice(name, task.get("notice", {}))
    _say(directory, f"end {who}")
    return int(task.get("exit_code", 0))


def _task(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text())) if file.exists() else {}


def _say(directory: Path, line: str) -> None:
    """One short write to a file opened for appending: lines of many processes never mix."""
    log = os.open(directory / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"{line}\n".encode())
    os.close(log)


def _checked_out() -> str:
    """The commit that it works on; empty where there is no project."""
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _print_notice(agent: str, extra: dict[str, object]) -> None:
    notice = {
        "agent": agent,
        "req_number": os.environ["AGOG_REQUIREMENT"],
        "status": "COMPLETE",
        "summary": f"{agent} is done",
        **GREEN,
        **extra,
    }
    sys.stdout.write(f"```json\n{json.dumps(notice)}\n```\n")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
