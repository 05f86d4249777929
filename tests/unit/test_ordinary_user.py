from pathlib import Path

import pytest

from tests.ordinary_user import IS_ROOT, as_ordinary_user


def test_an_ordinary_user_is_refused_what_root_is_not(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.write_text("secret")
    locked.chmod(0)

    assert as_ordinary_user("cat", str(locked)).returncode != 0
    assert as_ordinary_user("id", "-u").stdout != "0\n"


@pytest.mark.ordinary_user
def test_marked_test_also_runs_as_an_ordinary_user(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The second run tells whether there was a first."""
    (tmp_path / "mine").mkdir(mode=0o700)
    marks = tmp_path_factory.getbasetemp().glob("user*/tmp/*/mine")
    assert bool(list(marks)) is IS_ROOT
