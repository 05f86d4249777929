"""Values as PostgreSQL can hold them: output of agents may contain what it cannot."""

import json
import re

from sqlalchemy import Dialect, Text, TypeDecorator

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a whole surrogate pair
    r"|\\u[0-9a-fA-F]{4}|\\."
)
_UNSTORABLE_ESCAPE = re.compile(r"\\u(0000|[dD][89a-fA-F][0-9a-fA-F]{2})")
_REPLACEMENT = "\ufffd"


def storable(text: str) -> str:
    """The text with null characters and half surrogate pairs replaced by U+FFFD."""
    return _UNSTORABLE.sub(_REPLACEMENT, str(text))


def storable_json(value: object) -> str:
    """The value as JSON text that JSONB takes; a serializer for the engine.

    Raises: ValueError for a number that is not finite.
    """
    return _ESCAPE.sub(_replace, json.dumps(value, allow_nan=False))


def _replace(match: re.Match[str]) -> str:
    escape = match.group()
    return _REPLACEMENT if _UNSTORABLE_ESCAPE.fullmatch(escape) else escape


class StorableText(TypeDecorator[str]):
    """Text that is made storable on its way in."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Called by SQLAlchemy for every value that is written."""
        return None if value is None else storable(value)
