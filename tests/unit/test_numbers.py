import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RefusedInput
from pipeline.numbers import check_number, integration_branch, slug, stage_branch


@pytest.mark.parametrize(
    "number",
    ["REQ-1", "REQ-1767924916115-9l233", "REQ-aB-c", "REQ-FIX-1-b", "REQ-" + "x" * 76],
)
def test_good_numbers_come_back_unchanged(number: str) -> None:
    assert check_number(number) == number


@pytest.mark.parametrize(
    "number",
    [
        "",
        "REQ-",
        "REQ",
        "req-1",
        "REQ_1",
        "REQ-1-",
        "REQ--1",
        "REQ-1 ",
        " REQ-1",
        "REQ-1\n",
        "REQ-../../etc",
        "REQ-a/b",
        "REQ-a\\b",
        "REQ-1;rm",
        "REQ-$(id)",
        "REQ-`id`",
        "REQ-*",
        "REQ-a.b",
        "REQ-a>b",
        "REQ-١٢",
        "REQ-ä",
        "REQ-1\0",
        "REQ-" + "x" * 77,
        "REQ-1-FIX-1",
        "REQ-1-fix-22",
    ],
)
def test_bad_numbers_are_refused(number: str) -> None:
    with pytest.raises(RefusedInput, match="Requirement number"):
        check_number(number)


def test_a_long_number_is_not_repeated_in_the_refusal() -> None:
    with pytest.raises(RefusedInput) as refusal:
        check_number("REQ-" + "x" * 1_000_000)

    assert len(str(refusal.value)) < 200


def test_branches_are_named_after_requirement_stage_and_attempt() -> None:
    assert integration_branch("REQ-1") == "agog/REQ-1/main"
    assert stage_branch("REQ-1", "Backend QA", 2) == "agog/REQ-1/backend-qa-2"


@given(st.text())
def test_a_slug_is_safe_and_stable(name: str) -> None:
    assert re.fullmatch(r"([a-z0-9]+(-[a-z0-9]+)*)?", slug(name))
    assert slug(slug(name)) == slug(name)
