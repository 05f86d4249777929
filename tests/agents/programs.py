"""The real programs, from npm, in a cache outside the repository; and clones to run them in."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MANIFEST = (HERE / "package.json", HERE / "package-lock.json")


def installed() -> Path:
    """The folder with the programs' commands, installed once per manifest.

    Without npm the test says so; on a machine for continuous integration it fails.
    """
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in MANIFEST)).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = cache / "agog-agent-programs" / digest
    if not (place / "ready").exists():
        npm = shutil.which("npm")
        if npm is None:
            reason = "npm is missing: the agents' real programs are installed with it."
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        place.mkdir(parents=True, exist_ok=True)
        with (place / "lock").open("w") as lock:  # another test process may be at it
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (place / "ready").exists():
                for path in MANIFEST:
                    shutil.copy(path, place)
                subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=place, check=True)
                (place / "ready").touch()
    return place / "node_modules" / ".bin"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """An empty git repository that an agent works in."""
    place = tmp_path / "clone"
    subprocess.run(["git", "init", "--quiet", str(place)], check=True)
    return place
