"""How big the product is, and how much of it one delivered requirement runs through.

    python -m tests.rooms          files and lines of each room
    python -m tests.rooms --walk   and the files of ours that `starter.py demo` executes

The walk is taken by a profile function in every process of the demonstration, which notes each of
our files when the first function of it is called. Importing a file does not count.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from statistics import median

REPOSITORY = Path(__file__).resolve().parent.parent
NOT_PRODUCT = ("tests", "bench")

_HOOK = """
import os, sys, threading
_root, _notes, _seen = {root!r}, {notes!r}, set()
def _note(frame, event, _):
    if event != "call":
        return
    name = frame.f_code.co_filename
    if name in _seen:
        return
    _seen.add(name)
    if name.startswith(_root) and frame.f_code.co_name != "<module>":
        with open(os.path.join(_notes, str(os.getpid())), "a") as file:
            file.write(name + "\\n")
    elif name.startswith(_root):
        _seen.discard(name)
threading.setprofile(_note)
sys.setprofile(_note)
"""


def product() -> list[Path]:
    """The Python files that a user gets."""
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout.split()
    return [Path(name) for name in listed if not name.startswith(NOT_PRODUCT)]


def walk() -> set[Path]:
    """The files that a demonstration executes, in all its processes."""
    with tempfile.TemporaryDirectory() as directory:
        notes = Path(directory, "notes")
        notes.mkdir()
        hook = _HOOK.format(root=f"{REPOSITORY}{os.sep}", notes=str(notes))
        Path(directory, "sitecustomize.py").write_text(hook, encoding="utf-8")
        subprocess.run(
            [sys.executable, "starter.py", "demo"],
            cwd=REPOSITORY,
            check=True,
            env={**os.environ, "PYTHONPATH": directory},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        named = {line for note in notes.iterdir() for line in note.read_text().splitlines()}
    return {Path(name).relative_to(REPOSITORY) for name in named if "/.venv/" not in name}


def _lines(path: Path) -> int:
    return len((REPOSITORY / path).read_text(encoding="utf-8").splitlines())


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--walk", action="store_true", help="run a demonstration, too")
    options = parser.parse_args()
    lines = {path: _lines(path) for path in product()}
    files, sums = Counter[str](), Counter[str]()
    for path, count in lines.items():
        files[str(path.parent)] += 1
        sums[str(path.parent)] += count
    for room in sorted(files):
        print(f"{room:24} {files[room]:4} files {sums[room]:6} lines")
    middle = median(lines.values())
    print(f"{'product':24} {len(lines):4} files {sum(lines.values()):6} lines, median {middle:.0f}")
    if options.walk:
        walked = walk() & lines.keys()
        print(
            f"{'walk of the demo':24} {len(walked):4} files {sum(lines[p] for p in walked):6} lines"
        )


if __name__ == "__main__":
    main()
