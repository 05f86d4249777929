"""What a prepared build worktree depends on: when this changes, it is prepared again."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

LOCK_FILES = (
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "bun.lock",
    "bun.lockb",
    "deno.lock",
    "poetry.lock",
    "uv.lock",
    "pdm.lock",
    "pylock*.toml",
    "Pipfile.lock",
    "requirements*.txt",
    "Cargo.lock",
    "go.sum",
    "Gemfile.lock",
    "composer.lock",
    "mix.lock",
    "pubspec.lock",
    "packages.lock.json",
    "gradle.lockfile",
    "flake.lock",
)
MANIFESTS = (
    "package.json",
    "pyproject.toml",
    "setup.py",
    "Pipfile",
    "Cargo.toml",
    "go.mod",
    "Gemfile",
    "composer.json",
    "build.gradle*",
    "pom.xml",
)
"""What stands in for a lock file in a project that has none."""


def prepared_state(worktree: Path, directory: Path, command: tuple[str, ...]) -> str:
    """A fingerprint of the worktree's making, the command and the lock files that it reads."""
    digest = hashlib.sha256("\0".join(command).encode("utf-8", "surrogateescape"))
    # `.git` is written once, when the worktree is made: a new worktree has another one.
    made = (worktree / ".git").stat()
    digest.update(f"\0{made.st_ino} {made.st_mtime_ns}".encode())
    places = dict.fromkeys((directory, worktree))
    for file in tuple(_found(places, LOCK_FILES)) or tuple(_found(places, MANIFESTS)):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"\0{file.relative_to(worktree)} {content}".encode("utf-8", "replace"))
    return digest.hexdigest()


def _found(places: dict[Path, None], patterns: tuple[str, ...]) -> Iterator[Path]:
    for place in places:
        for pattern in patterns:
            yield from (file for file in sorted(place.glob(pattern)) if file.is_file())
