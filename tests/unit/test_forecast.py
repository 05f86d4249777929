"""What a requirement is likely to cost, from what is recorded or else said."""

import random
from collections.abc import Sequence

import pytest

from pipeline.forecast import Payer, Sample, Source, forecast, percentile

ROY = Payer("Backend Implementation", "roy", "claude-code", None)


def samples(*usd: float, stage: str = ROY.stage, agent: str = "roy") -> Sequence[Sample]:
    return [Sample(stage, agent, "claude-code", each) for each in usd]


@pytest.mark.parametrize(
    ("payer", "recorded", "source", "p50", "p80"),
    [
        (ROY, samples(1, 2, 3, 4, 5), Source.STAGE, 3, 4),
        (ROY, [*samples(1, 2), *samples(9, stage="Fix it")], Source.AGENT, 2, 9),
        (ROY, [*samples(1, 2), *samples(9, agent="jen")], Source.KIND, 2, 9),
        (ROY, samples(1, 2), Source.UNKNOWN, None, None),
        (Payer(ROY.stage, "roy", "claude-code", 0.7), samples(1, 2), Source.FILE, 0.7, 0.7),
        # It works with another program by now: what the old one cost tells nothing.
        (Payer(ROY.stage, "roy", "codex", None), samples(1, 2, 3), Source.UNKNOWN, None, None),
        (Payer(ROY.stage, "roy", "", 0.0), samples(1, 2, 3), Source.FILE, 0.0, 0.0),
    ],
)
def test_the_nearest_record_tells_what_a_stage_costs(
    payer: Payer,
    recorded: Sequence[Sample],
    source: Source,
    p50: float | None,
    p80: float | None,
) -> None:
    (stage,) = forecast([payer], recorded, []).stages

    assert (stage.source, stage.p50, stage.p80) == (source, p50, p80)


def test_what_is_not_known_is_named_and_left_out() -> None:
    told = forecast([ROY, Payer("Research", "cynthia", "codex", None)], samples(1, 1, 1), [])

    assert (told.unknown, told.p50, told.p80) == (("Research",), 1, 1)
    assert forecast([], [], []).p80 == 0


def test_percentiles_of_a_sum_are_not_the_sums_of_percentiles() -> None:
    """Ten stages that cost $1 to $10 each: as many thousand draws of them say."""
    chance = random.Random(7)
    costs = [float(nth) for nth in range(1, 11)]
    payers = [Payer(f"Stage {nth}", f"agent {nth}", "claude-code", None) for nth in range(10)]
    recorded = [each for p in payers for each in samples(*costs, stage=p.stage, agent=p.agent)]
    told = forecast(payers, recorded, [])
    drawn = [sum(chance.choices(costs, k=10)) for _ in range(20_000)]

    assert told.p50 == pytest.approx(percentile(drawn, 0.5), abs=1)
    assert told.p80 == pytest.approx(percentile(drawn, 0.8), abs=1.5)
    assert told.p80 < sum(stage.p80 or 0 for stage in told.stages) - 10


def test_fixes_of_earlier_requirements_count() -> None:
    without = forecast([ROY], samples(1, 1, 1), [0, 50])
    told = forecast([ROY], samples(1, 1, 1), [0, 0, 0, 4, 5])

    assert (without.fixes_p80, without.p80) == (None, 1)
    assert (told.fixes_p80, told.p50, told.p80) == (4, 1, 5)
    assert told.is_enough(5)
    assert not told.is_enough(4.99)
