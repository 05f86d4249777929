"""Typed access to the fields of a notice: a refusal names the field and the reason."""

import json
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import NoReturn

from pipeline.errors import NoticeRefused

DEPTH_LIMIT = 64


def refuse(reason: str) -> NoReturn:
    """Refuse the notice for that reason."""
    raise NoticeRefused(f"The notice is not acceptable: {reason}.")


def text(fields: Mapping[str, object], key: str) -> str:
    """A string, empty where it is absent or null."""
    value = fields.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        refuse(f"{key} must be a string")
    return value.strip()


def word(fields: Mapping[str, object], keys: tuple[str, ...], known: Mapping[str, str]) -> str:
    """A word out of a fixed vocabulary, in any case, under one of several keys; empty if absent.

    Two keys that contradict each other are refused.
    """
    said = {key: text(fields, key) for key in keys}
    words = {_known(key, value, known) for key, value in said.items() if value}
    if len(words) > 1:
        refuse(f"{' and '.join(keys)} contradict each other")
    return words.pop() if words else ""


def texts(fields: Mapping[str, object], key: str) -> tuple[str, ...]:
    """A list of strings, empty where it is absent; an object in it is taken as its JSON text."""
    value = fields.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str | dict) for item in value):
        refuse(f"{key} must be a list of strings")
    return tuple(
        item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for item in value
    )


def claim(fields: Mapping[str, object], key: str) -> bool:
    """A strict boolean, false where it is absent."""
    value = fields.get(key, False)
    if not isinstance(value, bool):
        refuse(f"{key} must be true or false")
    return value


def check_storable(fields: Mapping[str, object]) -> None:
    """Refuse what a database or a JSON reader downstream could not hold.

    That is: null characters, half surrogate pairs, infinite numbers, nesting beyond `DEPTH_LIMIT`.
    """
    for value, depth in _values(fields):
        if depth > DEPTH_LIMIT:
            refuse(f"it is nested deeper than {DEPTH_LIMIT} levels")
        if isinstance(value, str):
            _check_text(value)
        elif isinstance(value, float) and not isfinite(value):
            refuse("it holds a number that is not finite")


def _values(fields: Mapping[str, object]) -> Iterator[tuple[object, int]]:
    pending: list[tuple[object, int]] = [(fields, 1)]
    while pending:
        value, depth = pending.pop()
        yield value, depth
        if isinstance(value, list):
            pending.extend((item, depth + 1) for item in value)
        elif isinstance(value, Mapping):
            pending.extend((item, depth + 1) for pair in value.items() for item in pair)


def _check_text(string: str) -> None:
    if "\0" in string:
        refuse("it holds a null character")
    try:
        string.encode()
    except UnicodeEncodeError:
        refuse("it holds half a surrogate pair")


def _known(key: str, value: str, known: Mapping[str, str]) -> str:
    found = known.get(value.upper())
    if found is None:
        refuse(f"unknown {key} {value[:80]!r}; known are {', '.join(known)}")
    return found
