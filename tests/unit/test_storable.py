import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.sdlc.database import storable, storable_json


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("plain é 😀", "plain é 😀"),
        ("nul \0", "nul \ufffd"),
        ("half \ud83d", "half \ufffd"),
        ("other half \ude00", "other half \ufffd"),
        ("backslash \\u0000", "backslash \\u0000"),
        ("two \\\\u0000", "two \\\\u0000"),
    ],
)
def test_only_what_postgres_cannot_hold_is_replaced(text: str, stored: str) -> None:
    assert storable(text) == stored
    assert json.loads(storable_json({"key": text})) == {"key": stored}


@given(st.text())
def test_proper_text_is_kept(text: str) -> None:
    assert json.loads(storable_json(text)) == storable(text) == text.replace("\0", "\ufffd")


def test_number_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        storable_json({"key": float("nan")})
