"""What travels with a work item or a deliverable: one archive of plain files.

Whoever made it, nothing in it leads out of the place where it is opened.
"""

import os
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from adapters.files import PRIVATE_FILE, make_private_directory
from adapters.remote.channel import MOST_FILE_BYTES, BrokenFiles

PROMPT, PROMPT_BY_SCHEMA, BUNDLE, INBOX, OUTBOX = (
    *("prompt", "prompt-by-schema", "bundle", "inbox", "outbox"),
)
_MOST_FILES = 10_000


def pack(archive: Path, files: Mapping[str, Path]) -> None:
    """Write an archive: files and folders by the names that they have in it. Blocks.

    Whatever is neither, such as a link, is left out.
    """
    with tarfile.open(archive, "w") as tar:
        for name, path in files.items():
            for file in [path] if path.is_file() else _below(path):
                inside = PurePosixPath(name, *file.relative_to(path).parts)
                tar.add(file, str(inside), recursive=False)


def unpack(archive: Path, place: Path) -> None:
    """Write the files of an archive below a place. Blocks. Raises: BrokenFiles."""
    size = 0
    try:
        with tarfile.open(archive, "r:") as tar:
            for count, member in enumerate(tar):
                target = place / _inside(member)
                size += member.size
                if count >= _MOST_FILES or size > MOST_FILE_BYTES:
                    raise BrokenFiles("Its files are too many, or too large.")
                content = tar.extractfile(member)
                if content is None:
                    raise BrokenFiles(f"{member.name[:200]!r} is no file.")
                make_private_directory(target.parent)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
                with open(os.open(target, flags, PRIVATE_FILE), "wb") as file:
                    while data := content.read(1024 * 1024):
                        file.write(data)
    except (tarfile.TarError, FileExistsError, NotADirectoryError, ValueError) as error:
        raise BrokenFiles(f"Its archive cannot be read: {error}") from error


def _below(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*")) if folder.is_dir() else []
    return [path for path in found if path.is_file() and not path.is_symlink()]


def _inside(member: tarfile.TarInfo) -> PurePosixPath:
    """The path of a member that is a plain file, below wherever it is opened."""
    path = PurePosixPath(member.name)
    if not member.isreg() or path.is_absolute() or not path.parts or ".." in path.parts:
        raise BrokenFiles(f"{member.name[:200]!r} is no file below its place.")
    return path
