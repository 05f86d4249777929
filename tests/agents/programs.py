"""The real programs, from npm, in a cache outside the repository; and clones to run them in."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

HERE = Path(__file__).parent
MANIFEST = (HERE / "package.json", HERE / "package-lock.json")


INSTALL_SECONDS = 400


def installed() -> Path:
    """The folder with the programs' commands, installed once per manifest.

    Without npm or its registry the test says so, and is skipped; in `.ci/run` it fails.
    """
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in MANIFEST)).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = cache / "agog-agent-programs" / digest
    if not (place / "ready").exists():
        npm = shutil.which("npm")
        if npm is None:
            not_here("npm is missing: the agents' real programs are installed with it.")
        place.mkdir(parents=True, exist_ok=True)
        with (place / "lock").open("w") as lock:  # another test process may be at it
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (place / "ready").exists():
                for path in MANIFEST:
                    shutil.copy(path, place)
                _install(npm, place)
                (place / "ready").touch()
    return place / "node_modules" / ".bin"


def _install(npm: str, place: Path) -> None:
    argv = [npm, "ci", "--no-audit", "--no-fund"]
    try:
        subprocess.run(
            argv, cwd=place, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS
        )
    except subprocess.TimeoutExpired:
        not_here(f"npm has not installed the agents' real programs in {INSTALL_SECONDS} seconds.")
    except subprocess.CalledProcessError as error:
        not_here(f"npm cannot install the agents' real programs: {error.stderr[-1000:].strip()}")


def not_here(reason: str) -> NoReturn:
    """Say why the real programs cannot run here: what must land fails for it."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """An empty git repository that an agent works in."""
    place = tmp_path / "clone"
    subprocess.run(["git", "init", "--quiet", str(place)], check=True)
    return place
