"""Tests that also run as an ordinary user: what root may do to files hides what a user may not.

`@pytest.mark.ordinary_user` runs a test once more where the suite runs as root: in a pytest of its
own, without any capability and under another user id. What that makes belongs to it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
IS_ROOT = os.geteuid() == 0

# Inside the namespace we are somebody else who owns the same files, interpreter included: a user
# id of the machine could not even read a virtual environment below /root.
PREFIX = (
    *("unshare", "--user", "--map-user=1000", "--map-group=1000"),
    *("setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"),
)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """The run as an ordinary user comes before the usual one."""
    if IS_ROOT and pyfuncitem.get_closest_marker("ordinary_user"):
        factory: pytest.TempPathFactory = pyfuncitem.config._tmp_path_factory  # type: ignore[attr-defined] # set by pytest's own plugin
        base = factory.mktemp("user")
        test = f"{pyfuncitem.path}::{pyfuncitem.nodeid.partition('::')[2]}"
        options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={base / 'tmp'}")
        run = as_ordinary_user(sys.executable, "-m", "pytest", *options, test)
        if run.returncode:
            pytest.fail(f"As an ordinary user:\n{run.stdout}{run.stderr}", pytrace=False)


def as_ordinary_user(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a program as somebody who is not root, whoever we are."""
    prefix = PREFIX if IS_ROOT else ()
    variables = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return subprocess.run(
        (*prefix, *command),
        cwd=ROOT,
        env={**variables, "HOME": variables.get("TMPDIR", "/tmp")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
