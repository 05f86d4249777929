"""What is opened here, whoever has packed it, stays below its place."""

import io
import tarfile
from pathlib import Path

import pytest

from adapters.remote.archive import pack, unpack
from adapters.remote.channel import BrokenFiles


def hostile(archive: Path, *members: tuple[str, bytes, str]) -> Path:
    with tarfile.open(archive, "w") as tar:
        for name, kind, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            member.size = 3 if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(b"bad") if member.size else None)
    return archive


FILE, LINK, HARD, PIPE = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE


@pytest.mark.parametrize(
    "members",
    [
        [("../out", FILE, "")],
        [("/tmp/out-of-an-archive", FILE, "")],
        [("outbox/../../out", FILE, "")],
        [("outbox", LINK, ".."), ("outbox/out", FILE, "")],
        [("bundle", HARD, "../secret")],
        [("bundle", PIPE, "")],
        [("bundle", FILE, ""), ("bundle", FILE, "")],
        [("bundle", FILE, ""), ("bundle/x", FILE, "")],
        [("", FILE, "")],
    ],
)
def test_an_archive_that_leads_out_of_its_place_is_broken(
    members: list[tuple[str, bytes, str]], tmp_path: Path
) -> None:
    place = tmp_path / "in"
    place.mkdir()
    (tmp_path / "secret").write_text("secret")

    with pytest.raises(BrokenFiles):
        unpack(hostile(tmp_path / "made.tar", *members), place)

    assert not (tmp_path / "out").exists()
    assert all(path.is_dir() or path.read_text() == "bad" for path in place.rglob("*"))


def test_what_is_no_archive_is_broken(tmp_path: Path) -> None:
    (tmp_path / "made.tar").write_bytes(b"no archive" * 200)

    with pytest.raises(BrokenFiles):
        unpack(tmp_path / "made.tar", tmp_path / "in")


def test_files_and_folders_come_as_they_went_and_links_stay(tmp_path: Path) -> None:
    outbox = tmp_path / "outbox"
    (outbox / "deep").mkdir(parents=True)
    (outbox / "deep" / "notes.md").write_text("Mind it.")
    (outbox / "link").symlink_to("/etc/passwd")

    pack(tmp_path / "made.tar", {"outbox": outbox, "nothing": tmp_path / "nothing"})
    unpack(tmp_path / "made.tar", tmp_path / "in")

    found = [path for path in (tmp_path / "in").rglob("*") if path.is_file()]
    assert [path.relative_to(tmp_path / "in").as_posix() for path in found] == [
        "outbox/deep/notes.md"
    ]
