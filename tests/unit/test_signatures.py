import pytest

from pipeline.failures import signature


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a.ts(12,5): error TS2345", "a.ts(14,1): error TS2345"),
        ("app.py:10: NameError: x", "app.py:99:3: NameError: x"),
        ("failed after 1.25 s", "failed after 3 s"),
        ("/tmp/one/tree/app.py is broken", "/home/two/app.py is broken"),
        ("at commit 3f2a9bc1", "at commit 77aa01de99"),
        ("2026-01-02T10:00:00Z down", "2027-11-12 23:59:59.123+01:00 down"),
        ("\x1b[31mError: no\x1b[0m", "error:   no"),
    ],
)
def test_what_differs_from_run_to_run_does_not_count(one: str, other: str) -> None:
    assert signature(one) == signature(other) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("error TS2345: x", "error TS2322: x"),
        ("expected 3 greetings", "expected 4 greetings"),
        ("NameError: name 'a'", "NameError: name 'b'"),
    ],
)
def test_other_words_are_another_error(one: str, other: str) -> None:
    assert signature(one) != signature(other)


@pytest.mark.parametrize("text", ["", "  \n\t", "\x1b[0m"])
def test_no_error_text_no_signature(text: str) -> None:
    assert signature(text) == ""
