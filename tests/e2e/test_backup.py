"""A state directory that is copied while drained, and restored: docs/operating.md."""

import shutil
from pathlib import Path

from pipeline.model import RequirementState
from tests.e2e.conftest import until
from tests.e2e.up_stack import Up


def test_a_restored_copy_starts_nothing_by_itself_and_goes_on_when_told(tmp_path: Path) -> None:
    up, copy = Up(tmp_path / "up"), tmp_path / "copy"

    def state(number: str) -> str:
        return str(up.cli("status", number, "--json").document["state"])

    def stop() -> None:
        assert up.cli("down").code == 0

    try:
        up.open()
        up.until_worker()
        up.start("REQ-BEFORE")
        up.deliver("REQ-BEFORE")
        assert up.cli("drain", "--wait").code == 0
        assert up.cli("start", "REQ-AFTER", "--title", "x", "--pipeline", str(up.plan)).code == 0
        stop()
        shutil.copytree(up.home, copy, symlinks=True)

        up.open()
        up.until_worker(2)
        assert up.cli("unpause", "--all").code == 0
        up.deliver("REQ-AFTER")
        delivered = up.project.git("rev-parse", "main")
        stop()
        shutil.rmtree(up.home)
        copy.rename(up.home)

        up.open()
        up.until_worker(2)
        until(lambda: "REQ-AFTER" in up.cli("list", "--waiting").out, "it waits")
        assert state("REQ-BEFORE") == RequirementState.DELIVERED
        assert up.cli("cancel", "REQ-AFTER").code == 0
        assert state("REQ-AFTER") == RequirementState.CANCELLED
        assert up.cli("unpause", "--all").code == 0
        up.start("REQ-LATER")
        up.deliver("REQ-LATER")
        assert up.puppets.starts("cynthia", "REQ-AFTER") == 1
        assert up.project.git("merge-base", "--is-ancestor", delivered, "main") == ""
    finally:
        up.close()
