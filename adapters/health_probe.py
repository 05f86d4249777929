"""Check the health of a state directory's worker: `python -m adapters.health_probe HOME`.

For health checks of containers. Standard library only, so that it costs next to nothing.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WORKER_FILE = "worker.json"
"""Records that a worker lives and where it answers."""

_ASK_SECONDS = 5.0


def living_worker(home: Path) -> Mapping[str, Any] | None:
    """What the living worker of a state directory has recorded of itself; None if none lives."""
    try:
        worker: Mapping[str, Any] = json.loads((home / WORKER_FILE).read_bytes())
    except FileNotFoundError:
        return None
    return worker if _lives(worker["pid"]) else None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True


def main(home: Path) -> int:
    """Print what `/readyz` says; 0 if the worker is ready, else 1."""
    try:
        address = json.loads((home / WORKER_FILE).read_text(encoding="utf-8"))["health"]
        if not address:
            sys.stderr.write("The worker says nothing: AGOG_HEALTH_PORT is 0.\n")
            return 1
        with urllib.request.urlopen(f"{address}/readyz", timeout=_ASK_SECONDS) as answer:
            sys.stdout.write(answer.read().decode())
    except urllib.error.HTTPError as refusal:
        sys.stdout.write(refusal.read().decode())
        return 1
    except OSError as error:  # no such file, nobody listens, no answer
        sys.stderr.write(f"No worker answers for {home}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
