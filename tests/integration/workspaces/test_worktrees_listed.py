"""Git's list of worktrees, read while it is being changed."""

import shutil
import threading
from pathlib import Path

from adapters.workspaces.worktrees import registered


def test_worktrees_that_are_removed_meanwhile_disturb_nobody(tmp_path: Path) -> None:
    """Every requirement's worktrees stand in one list, and they come and go."""
    keep = tmp_path / "keep"
    keep.mkdir()
    (keep / "gitdir").write_text("/state/worktrees/REQ-1/stage-1/.git\n")
    over = threading.Event()
    churn = threading.Thread(target=come_and_go, args=(tmp_path, over))
    churn.start()

    try:
        seen = [{one.path for one in registered(tmp_path)} for _ in range(3_000)]
    finally:
        over.set()
        churn.join()

    assert all(Path("/state/worktrees/REQ-1/stage-1") in paths for paths in seen)


def come_and_go(entries: Path, over: threading.Event) -> None:
    while not over.is_set():
        for number in range(20):
            entry = entries / f"entry-{number}"
            entry.mkdir()
            (entry / "gitdir").write_text("/elsewhere/.git\n")
            shutil.rmtree(entry)
