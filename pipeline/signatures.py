"""Signatures of errors: two failures that say the same have the same one."""

import re
from hashlib import sha256

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
