"""Documents that one run hands to others: what of them is taken, and how it is told.

They lie in the directory `AGOG_OUTBOX` of their run, are written by agents, and are never merged.
"""

from dataclasses import dataclass

MOST_DOCUMENTS = 50
DOCUMENT_BYTES = 2 * 1024 * 1024
MOST_BYTES = 8 * 1024 * 1024
"""Of one run: a report with its pictures. A stage may be handed those of ten others."""
MOST_FOLDERS = 100
DEEPEST = 6
"""Folders below one another."""
LOG_BYTES = 1024 * 1024
"""Of a failure's log, from its end: what an agent can search."""
STREAM_BYTES = 8 * 1024 * 1024
"""Of a program's stream, which says the same in several times as many bytes."""

LIMITS = (
    f"{MOST_DOCUMENTS} files, {DOCUMENT_BYTES // 1024**2} MiB each and "
    f"{MOST_BYTES // 1024**2} MiB together, no links"
)

_NAME_LENGTH = 60
"""Characters, of four bytes at most: a file system takes 255 bytes."""
_SAFE = "._-+ "


@dataclass(frozen=True)
class Document:
    """A file where its reader finds it; `remark` says what is special about it."""

    path: str
    size: int
    remark: str = ""


@dataclass(frozen=True)
class Handover:
    """The documents of a run, and what of them was left out, or is out of reach, and why."""

    documents: tuple[Document, ...] = ()
    remarks: tuple[str, ...] = ()


def safe_name(name: str) -> str:
    """The name of a file as it is handed on: nothing in it leads elsewhere or looks like code."""
    kept = "".join(mark if mark.isalnum() or mark in _SAFE else "_" for mark in name)
    kept = kept.strip(". ") or "_"
    if len(kept) <= _NAME_LENGTH:
        return kept
    stem, dot, ending = kept.rpartition(".")
    if not dot or len(ending) > 10:
        return kept[:_NAME_LENGTH]
    return f"{stem[: _NAME_LENGTH - len(ending) - 1]}.{ending}"
