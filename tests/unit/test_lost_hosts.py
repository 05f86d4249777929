"""When a host counts as lost, and what its workflows are about."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from pipeline.lost_hosts import Silence, number_of
from pipeline.model import FailureKind
from pipeline.model.stages import StageEntry

AFTER = timedelta(seconds=10)
SILENT = {"a": "1"}
Step = tuple[float, dict[str, str] | None, set[str]]
"""The time, the beats that are heard (None: the database is away), and who is lost then."""


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(
            [(0, SILENT, set()), (5, SILENT, set()), (9.9, SILENT, set()), (10, SILENT, {"a"})],
            id="silent for so long",
        ),
        pytest.param(
            [
                (0, SILENT, set()),
                (5, SILENT, set()),
                (9, {"a": "2"}, set()),
                (14, {"a": "2"}, set()),
            ],
            id="slow, and not lost",
        ),
        pytest.param(
            [(0, SILENT, set()), (5, SILENT, set()), (10, SILENT, {"a"}), (11, {"a": "2"}, set())],
            id="back again",
        ),
        pytest.param(
            [(0, SILENT, set()), (5, SILENT, set()), (8, None, set()), (10, SILENT, set())],
            id="an outage of the database silences everybody",
        ),
        pytest.param(
            [(0, SILENT, set()), (5, SILENT, set()), (11, SILENT, set()), (16, SILENT, set())],
            id="so does a while in which this host has not listened",
        ),
        pytest.param(
            [(0, SILENT, set()), (5, {}, set()), (9, SILENT, set()), (13, SILENT, set())],
            id="watched anew once it has work again",
        ),
        pytest.param(
            [
                (0, {"a": "1", "b": "1"}, set()),
                (5, {"a": "1", "b": "2"}, set()),
                (10, {"a": "1", "b": "3"}, {"a"}),
            ],
            id="each by itself",
        ),
    ],
)
def test_a_host_is_lost_once_it_was_watched_in_silence_for_so_long(steps: Sequence[Step]) -> None:
    silence = Silence(AFTER)
    for now, beats, lost in steps:
        if beats is None:
            silence.forget()
            continue
        assert set(silence.hear(beats, now)) == lost, now


@pytest.mark.parametrize(
    ("workflow_id", "number"),
    [
        ("REQ-1", "REQ-1"),
        ("REQ-1/round-2", "REQ-1"),
        ("REQ-1-FIX-1", "REQ-1-FIX-1"),
        ("sasha-0123abcd", "sasha-0123abcd"),
    ],
)
def test_a_workflow_is_about_its_number(workflow_id: str, number: str) -> None:
    assert number_of(workflow_id) == number


def test_a_run_that_was_lost_with_its_host_costs_no_try_and_is_nobodys_red() -> None:
    entry = StageEntry()
    for _ in range(5):
        assert FailureKind.HOST_LOST in entry.repeated_after(0)
        entry.count(FailureKind.HOST_LOST)
    assert (entry.tries, entry.losses) == (0, 0)
    assert not FailureKind.HOST_LOST.is_red
    assert FailureKind.HOST_LOST.owners("roy") == ()
