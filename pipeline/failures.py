"""Error texts: their signatures, their lines in a report, and one report of a round."""

import re
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from pipeline.model import (
    BlockedStage,
    Failure,
    FailureCollection,
    FailureKind,
    FailureReport,
    Severity,
)

SIGNATURE_LENGTH = 16

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_PASSING = re.compile(
    r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?"  # times
    r"|\b\d{2}:\d{2}:\d{2}(\.\d+)?"
    r"|\(\d+,\d+\)"  # file(line,column)
    r"|:\d+(:\d+)?\b"  # file:line:column
    r"|\bline \d+"
    r"|\b\d+(\.\d+)?\s?(ms|s|sec|seconds|min|minutes)\b"
    r"|\b0x[0-9a-f]+"
    r"|\b(?=[0-9a-f]*\d)[0-9a-f]{7,40}\b"  # commits
    r"|(/[\w.+-]+)+/(?=[\w.+-])",  # folders: every attempt has its own
    re.IGNORECASE,
)


def signature(text: str) -> str:
    """What an error text says, without what differs from run to run; empty for an empty text.

    Times, durations, positions, addresses, commits and folders are left out; error codes stay.
    """
    said = " ".join(_PASSING.sub(" ", _COLOUR.sub("", text)).split()).lower()
    return sha256(said.encode(errors="replace")).hexdigest()[:SIGNATURE_LENGTH] if said else ""


# --- the report of a round, and the lines of an error that it shows -------------------------------

ERROR_LIMIT = 8_000
"""Characters of error text that one failure carries."""
REPORT_LIMIT = 16_000
"""Characters of error text in one report, shared out evenly: it travels through Temporal."""
BUILDS_FAILED = "❌ PARALLEL BUILD VERIFICATION FAILED"

LAST_LINES = 6
"""Of output and of errors each: both stand in the first lines of a failure that `status` shows."""
LAST_CHARACTERS = 16_000

_LINE_LIMIT = 1_000
_LAST_LINE_LIMIT = 300
_ERROR_LINE = re.compile(
    r"error TS\d+"  # tsc
    r"|error(\[\w+\])?:"  # most compilers; also `Error:` of any JavaScript tool
    r"|^npm (ERR!|error)"
    r"|\(\d+,\d+\)"  # file(line,column)
    r"|^\s*\d+:\d+\s+error\b"  # eslint
    r"|^[A-Za-z_][\w.]*(Error|Exception)(:|$)"  # the last line of a Python traceback
    r"|^E\s{2,}",  # pytest
    re.IGNORECASE,
)

_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception)(:|$)")
_PYTEST = re.compile(r"^E\s{2,}")


def aggregate(collection: FailureCollection) -> FailureReport:
    """All failures as one report: worst first, else as they came; none is left out or softened.

    Errors share out `REPORT_LIMIT`; the logs that they refer to hold the rest.
    """
    worst_first = sorted(collection.failures, key=lambda failure: -failure.severity)
    failures = truncated(worst_first)
    return FailureReport(
        number=collection.ref.number,
        round=collection.round,
        severity=max((failure.severity for failure in failures), default=Severity.ERROR),
        failures=failures,
        text=_text(collection, failures),
    )


def truncated(failures: Sequence[Failure]) -> tuple[Failure, ...]:
    """The failures with their errors cut to equal shares of `REPORT_LIMIT`."""
    share = min(ERROR_LIMIT, REPORT_LIMIT // max(1, len(failures)))
    return tuple(replace(failure, error=cut(failure.error, share)) for failure in failures)


def first_error_lines(output: str, limit: int = 50) -> str:
    """The first lines that look like errors and a count of the rest; else the last lines.

    The text only describes a failure; whether there is one is the exit code's to say.
    """
    lines = [line[:_LINE_LIMIT] for line in _COLOUR.sub("", output).splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR_LINE.search(line)]
    if not errors:
        return "\n".join(lines[-limit:])[-ERROR_LIMIT:]
    rest = f"\n… and {len(errors) - limit} more" if len(errors) > limit else ""
    return cut("\n".join(errors[:limit]), ERROR_LIMIT - len(rest)) + rest


def headline(error: str) -> str:
    """The line of an error that says best what is wrong, for where only one has room.

    The first that names an exception: pytest prints the place and the code before it. Else the
    first of all; empty for an empty error.
    """
    lines = [_PYTEST.sub("", line) for line in error.splitlines()]
    return next(filter(_EXCEPTION.match, lines), lines[0] if lines else "")


def last_lines(text: str, limit: int = LAST_LINES) -> str:
    """The last lines that say something, each cut: how a program ended, in its own words."""
    lines = [line for line in _COLOUR.sub("", text[-LAST_CHARACTERS:]).splitlines() if line.strip()]
    return "\n".join(cut(line.rstrip(), _LAST_LINE_LIMIT) for line in lines[-limit:])


def cut(text: str, limit: int = ERROR_LIMIT) -> str:
    """The text, ending in an ellipsis where it is longer than the limit."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _text(collection: FailureCollection, failures: Sequence[Failure]) -> str:
    noun = "failure" if len(failures) == 1 else "failures"
    parts = [f"{collection.ref.number}, round {collection.round}: {len(failures)} {noun}"]
    builds = [failure for failure in failures if failure.kind is FailureKind.BUILD]
    for failure in failures:
        if builds and failure is builds[0]:
            parts.append(BUILDS_FAILED)
        parts.append(_paragraph(failure))
    parts += [_not_started(blocked) for blocked in collection.blocked]
    return "\n".join(parts)


def _paragraph(failure: Failure) -> str:
    owners = " and ".join(failure.owners) or "nobody"
    if failure.kind is FailureKind.BUILD:
        head = f"❌ {owners} build failed:"
        where = f"({failure.gate}, after {failure.stage})"
    else:
        head = f"❌ {failure.stage}: {failure.gate} is red ({failure.kind}), owner {owners}:"
        where = ""
    commit = f"commit {failure.commit}" if failure.commit else ""
    log = f"log {failure.log_reference}" if failure.log_reference else ""
    return "\n".join(filter(None, (head, failure.error, where, commit, log)))


def _not_started(blocked: BlockedStage) -> str:
    return f"{blocked.stage.name} ({blocked.stage.agent}) did not start: {blocked.reason}"
