"""Records what the real programs print in each scenario: `python -m tests.agents.record [NAME …]`.

What is recorded holds no path, port or home of the machine that it was recorded on.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from adapters.files import read_tail
from adapters.runs import records
from adapters.runs.directory import RunDirectory
from tests.agents.programs import installed
from tests.agents.recorded import RECORDINGS, place
from tests.agents.scenarios import SCENARIOS, play
from tests.fixtures_runs import Bench

_ERRORS = 4_000
_PORT = re.compile(r"127\.0\.0\.1:\d+")


async def record(name: str) -> None:
    """Play one scenario and write down its stream, its errors and its end."""
    with tempfile.TemporaryDirectory() as folder:
        runs, clone = _ground(folder)
        await play(SCENARIOS[name], runs, clone)
        document = _document(runs.directory(runs.order()), clone.parent)
    text = json.dumps(document, ensure_ascii=False, indent=1)
    place(name).write_text(f"{text}\n", encoding="utf-8")
    sys.stdout.write(f"{name}\n")


def _ground(folder: str) -> tuple[Bench, Path]:
    root = Path(folder).resolve()
    runs, clone = Bench(root / "home"), root / "clone"
    runs.home.mkdir()
    subprocess.run(["git", "init", "--quiet", str(clone)], check=True)
    return runs, clone


def _document(run: RunDirectory, root: Path) -> dict[str, object]:
    exit_record = json.loads(run.file(records.EXIT).read_text())
    order = run.order()
    output = run.file(records.STDOUT).read_text(errors="replace")
    return {
        "session": order.session if order else "",
        "end": exit_record["end"],
        "exit_code": exit_record["exit_code"],
        "ended_at": exit_record["ended_at"],
        "errors": _neutral(read_tail(run.file(records.STDERR), _ERRORS), root),
        "output": _neutral(output, root).splitlines(),
    }


def _neutral(text: str, root: Path) -> str:
    """The text without what belongs to this machine."""
    for told, said in (
        (str(root), "/w"),
        (str(root).replace("/", "-"), "-w"),
        (str(installed().parent), "/programs"),
        (str(Path.home()), "/home"),
    ):
        text = text.replace(told, said)
    return _PORT.sub("127.0.0.1:1", text)


async def main() -> None:
    """Record the named scenarios, or all of them."""
    RECORDINGS.mkdir(exist_ok=True)
    for name in sys.argv[1:] or SCENARIOS:
        await record(name)


if __name__ == "__main__":
    asyncio.run(main())
    os._exit(0)
