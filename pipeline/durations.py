"""How long stages take, as earlier runs show, and how long a requirement is likely to take yet.

Half of the requirements end within the p50, four of five within the p80. Neither is a sum or a
maximum of the stages' own quantiles, so the plan is played through 508 times: each time each stage
takes one of the durations that are known of it. The draws are the points of a lattice (Korobov's),
not random: every stage takes all its durations equally often, no two stages in step, and the same
rows give the same figures. Durations of one requirement are taken to be independent; where large
requirements are large everywhere, p80 is too low: the report says how often it held.

Not counted: what holds, limits, queues, questions to humans and other deliveries add.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from pipeline.forecast import percentile
from pipeline.graph import remaining_minutes
from pipeline.model import (
    Expected,
    ExpectedStage,
    Interval,
    Mode,
    Pipeline,
    Stage,
    between,
)
from pipeline.savings import savings
from pipeline.schedule import list_schedule
from pipeline.team import Role

LEAST = 5
"""Fewer known durations than this tell nothing: the pipeline file's minutes count."""
_KEPT = 100
"""Known durations of a stage that count, the latest ones: agents and projects change."""
_DRAWS = 509
"""A prime, so that every step through the known durations meets each of them."""
_GENERATOR = 76
"""Its first 508 powers modulo 509 differ: no two stages are in step."""

K = TypeVar("K")


# --- what is known --------------------------------------------------------------------------------


class Piece(StrEnum):
    """What a row of earlier work is."""

    RUN = "run"
    BUILD = "build"
    SKIP = "skip"
    """A conditional stage that was not needed."""


@dataclass(frozen=True)
class WorkRow:
    """A run, a build or a skipped stage of a requirement or one of its fixes.

    `number` is the requirement's, also of a fix. `name` is a stage's, or a build's gate.
    `p50` and `p80` are how long the requirement was to take at its start, in seconds; None if
    earlier runs did not tell.
    """

    number: str
    pipeline: str
    is_delivered: bool
    is_of_fix: bool
    piece: Piece
    name: str
    agent: str = ""
    kind: str = ""
    is_done: bool = True
    """Whether a run was completed, or a build was green."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    closed_at: datetime | None = None
    prepare_started_at: datetime | None = None
    prepare_ended_at: datetime | None = None
    suspensions: tuple[datetime, ...] = ()
    p50: float | None = None
    p80: float | None = None

    @property
    def intervals(self) -> list[Interval]:
        """When it was under way: its clone was prepared, its agent worked, its work was merged."""
        if self.started_at is None or self.ended_at is None:
            return []
        found = between(self.started_at, self.ended_at, self.suspensions)
        for start, end in (
            (self.prepare_started_at, self.prepare_ended_at),
            (self.ended_at, self.closed_at),
        ):
            if start and end and start < end:
                found.append(Interval(start, end))
        return found

    @property
    def seconds(self) -> float:
        """How long it was under way."""
        return sum((each.end - each.start for each in self.intervals), timedelta()).total_seconds()


@dataclass(frozen=True)
class Subject:
    """Whose durations are alike: of a stage, its agent, the agent's kind, in a pipeline."""

    pipeline: str
    stage: str
    agent: str
    kind: str


@dataclass(frozen=True)
class Figures:
    """How long runs of a subject took, in seconds."""

    subject: Subject
    runs: int
    p50: float
    p80: float


@dataclass(frozen=True)
class Kept:
    """What was expected of a requirement at its start and what came of it, in seconds."""

    number: str
    p50: float
    p80: float
    took: float

    @property
    def is_held(self) -> bool:
        """Whether p80 was not exceeded."""
        return self.took <= self.p80


@dataclass(frozen=True)
class Known:
    """Known durations in seconds, the latest first.

    0 stands for a conditional stage that was not needed, and for a requirement without repairs:
    `repairs` are all fixes and repeated runs of a requirement, by pipeline.
    """

    stages: Mapping[Subject, Sequence[float]] = field(default_factory=dict)
    builds: Mapping[str, Sequence[float]] = field(default_factory=dict)
    repairs: Mapping[str, Sequence[float]] = field(default_factory=dict)
    kept: tuple[Kept, ...] = ()

    def of(self, number: str) -> Kept | None:
        """What came of what was expected of that requirement, if it was delivered lately."""
        return next((each for each in self.kept if each.number == number), None)

    def figures(self) -> tuple[Figures, ...]:
        """The median and the 80th percentile of everything that ran, by pipeline and stage."""
        found = []
        for subject, values in self.stages.items():
            ran = [value for value in values[:_KEPT] if value]
            if ran:
                p50, p80 = percentile(ran, 0.5), percentile(ran, 0.8)
                found.append(Figures(subject, len(ran), p50, p80))
        return tuple(found)

    @property
    def held_percent(self) -> float | None:
        """How often p80 was not exceeded, in percent; None where nothing tells."""
        if not self.kept:
            return None
        return round(100 * sum(each.is_held for each in self.kept) / len(self.kept), 1)


NOTHING = Known()
"""What is known before anything has run."""


def known(rows: Sequence[WorkRow]) -> Known:
    """What rows tell, the latest requirement's first; those of an open one may be incomplete."""
    stages: dict[Subject, list[float]] = {}
    builds: dict[str, list[float]] = {}
    for row in rows:
        if row.is_of_fix or not row.is_done:
            continue
        if row.piece is Piece.BUILD:
            builds.setdefault(row.name, []).append(row.seconds)
        elif row.piece is Piece.SKIP or row.intervals:
            subject = Subject(row.pipeline, row.name, row.agent, row.kind)
            stages.setdefault(subject, []).append(row.seconds)
    repairs: dict[str, list[float]] = {}
    kept = []
    for number, own in _grouped((row for row in rows if row.is_delivered), _number).items():
        repairs.setdefault(own[0].pipeline, []).append(_together(_repeated(own)))
        p50, p80 = own[0].p50, own[0].p80
        if p50 is not None and p80 is not None:
            kept.append(Kept(number, p50, p80, _together(own)))
    return Known(stages, builds, repairs, tuple(kept))


def _number(row: WorkRow) -> str:
    return row.number


def _repeated(rows: Sequence[WorkRow]) -> list[WorkRow]:
    """All runs but the last one of each stage that was completed."""
    last = {row.name: row for row in rows if row.piece is Piece.RUN and _counts(row)}
    return [row for row in rows if row.piece is Piece.RUN and last.get(row.name) is not row]


def _counts(row: WorkRow) -> bool:
    return row.is_done and not row.is_of_fix


def _together(rows: Iterable[WorkRow]) -> float:
    """How long something of them was under way, in seconds."""
    return savings([each for row in rows for each in row.intervals]).parallel.total_seconds()


def _grouped(rows: Iterable[WorkRow], key: Callable[[WorkRow], K]) -> dict[K, list[WorkRow]]:
    groups: dict[K, list[WorkRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


# --- what is ahead --------------------------------------------------------------------------------


class Source(StrEnum):
    """Where a stage's duration is known from, the nearest first."""

    PIPELINE = "runs in this pipeline"
    STAGE = "runs of the stage"
    AGENT = "runs of the agent"
    FILE = "pipeline file"


@dataclass(frozen=True)
class Ahead:
    """A stage that is to come or runs.

    `kind` is its agent's, None if that is not known: then all count. It takes `seconds` where too
    little is known, and has been running for `elapsed` of them. One that is not certain runs only
    if it is asked for. `is_worked` says that only its builds are to come.
    """

    stage: Stage
    kind: str | None
    seconds: float
    is_certain: bool = True
    is_running: bool = False
    elapsed: float = 0.0
    is_worked: bool = False


@dataclass(frozen=True)
class StageEstimate:
    """How long a stage takes, in seconds, and how long all takes from its begin on.

    A stage of which too little is known `may_come`: then it is not counted.
    """

    stage: str
    agent: str
    p50: float
    p80: float
    rest_p50: float
    rest_p80: float
    source: Source
    runs: int
    may_come: bool = False


@dataclass(frozen=True)
class Estimate:
    """How long it takes yet, in seconds, if nothing holds it; its stages in plan order."""

    p50: float
    p80: float
    stages: tuple[StageEstimate, ...]

    @property
    def expected(self) -> Expected:
        """What an order says of it, to the millisecond."""
        return Expected(
            round(self.p50, 3),
            round(self.p80, 3),
            {
                each.stage: ExpectedStage(
                    *(
                        round(seconds, 3)
                        for seconds in (each.p50, each.p80, each.rest_p50, each.rest_p80)
                    )
                )
                for each in self.stages
            },
            is_learned=self.is_learned and not self.by_file,
        )

    @property
    def is_learned(self) -> bool:
        """Whether anything but the pipeline file tells."""
        return any(each.source is not Source.FILE for each in self.stages)

    @property
    def by_file(self) -> tuple[str, ...]:
        """The stages of which too few runs are known."""
        return tuple(
            each.stage for each in self.stages if each.source is Source.FILE and not each.may_come
        )

    @property
    def may_come(self) -> tuple[str, ...]:
        """The stages that are not counted, since nobody knows whether they will be needed."""
        return tuple(each.stage for each in self.stages if each.may_come)


def estimate(
    pipeline: Pipeline,
    ahead: Sequence[Ahead],
    learned: Known,
    *,
    mode: Mode = Mode.PARALLEL,
    slots: int | None = None,
    repaired: float = 0.0,
) -> Estimate:
    """How long those stages of the plan, their builds and the delivery take yet.

    `repaired` is for how many seconds it has been repaired already; `slots` bounds the stages at
    once.
    """
    sources = [_source(each, pipeline.name, learned) for each in ahead]
    plan = _Plan(pipeline, ahead, [values for _, values in sources], learned, mode, slots)
    repairs = learned.repairs.get(pipeline.name, ())[:_KEPT]
    ends, starts = plan.play(_left(repairs, repaired) if len(repairs) >= LEAST else [0.0])
    return Estimate(
        percentile(ends, 0.5),
        percentile(ends, 0.8),
        tuple(
            _stage(each, source, values, [end - at for end, at in zip(ends, begun, strict=True)])
            for each, (source, values), begun in zip(ahead, sources, starts, strict=True)
        ),
    )


def _stage(
    each: Ahead, source: Source, values: Sequence[float], rests: Sequence[float]
) -> StageEstimate:
    whole = [value for value in values if value] or values
    return StageEstimate(
        each.stage.name,
        each.stage.agent,
        percentile(whole, 0.5),
        percentile(whole, 0.8),
        percentile(rests, 0.5),
        percentile(rests, 0.8),
        source,
        len(values) if source is not Source.FILE else 0,
        may_come=source is Source.FILE and not each.is_certain,
    )


def _source(each: Ahead, pipeline: str, learned: Known) -> tuple[Source, list[float]]:
    """What is known of a stage: of the same kind of agent alone; never nothing."""
    stage = each.stage
    narrower: tuple[tuple[Source, Callable[[Subject], bool]], ...] = (
        (Source.PIPELINE, lambda s: (s.pipeline, s.stage) == (pipeline, stage.name)),
        (Source.STAGE, lambda s: s.stage == stage.name),
        (Source.AGENT, lambda s: True),
    )
    for source, belongs in narrower:
        found: list[float] = []
        for subject, values in learned.stages.items():
            if subject.agent == stage.agent and belongs(subject):
                is_alike = each.kind is None or subject.kind == each.kind
                found += [value for value in values if is_alike or not value][:_KEPT]
        if each.is_certain or source is Source.AGENT:
            found = [value for value in found if value]
        if len(found) >= LEAST:
            return source, found
    return Source.FILE, [each.seconds]


def _left(values: Sequence[float], elapsed: float) -> list[float]:
    """What is left of durations after that time; nothing if none was longer."""
    if not elapsed:
        return list(values) or [0.0]
    return [value - elapsed for value in values if value > elapsed] or [0.0]


class _Plan:
    """Plays what is ahead through, once for each draw."""

    def __init__(
        self,
        pipeline: Pipeline,
        ahead: Sequence[Ahead],
        values: Sequence[Sequence[float]],
        learned: Known,
        mode: Mode,
        slots: int | None,
    ) -> None:
        self._mode = mode
        self._slots = slots or len(ahead)
        self._ahead = ahead
        self._builds = {
            name: learned.builds.get(f"build {name}", ())[:_KEPT] or (0.0,)
            for name in pipeline.builds
        }
        self._values = [
            _left(known_ones, each.elapsed) if each.is_running else list(known_ones)
            for each, known_ones in zip(ahead, values, strict=True)
        ]
        self._remaining = remaining_minutes(pipeline)
        names = {each.stage.name for each in ahead}
        self._needs = {
            each.stage.name: tuple(need for need in each.stage.needs if need in names)
            for each in ahead
        }

    def play(self, repairs: Sequence[float]) -> tuple[list[float], list[list[float]]]:
        """When all has ended in each draw, and for each stage when it began in each.

        Each draw takes one of the `repairs` on top.
        """
        ends: list[float] = []
        starts: list[list[float]] = [[] for _ in self._ahead]
        for number in range(1, _DRAWS):
            draw = _Draw(number)
            took, checked = {}, {}
            for each, values in zip(self._ahead, self._values, strict=True):
                name = each.stage.name
                took[name], checked[name] = self._one(each, values, draw)
            begun = self._schedule(took, checked)
            end = max(
                (begun[name] + took[name] + checked[name] for name in took),
                default=0.0,
            )
            ends.append(end + self._check(tuple(self._builds), draw) + draw.of(repairs))
            for each, times in zip(self._ahead, starts, strict=True):
                times.append(begun[each.stage.name])
        return ends, starts

    def _one(self, each: Ahead, values: Sequence[float], draw: "_Draw") -> tuple[float, float]:
        """How long a stage takes, and its builds afterwards."""
        stage = each.stage
        took, before = draw.of(values), 0.0
        if stage.member.role == Role.DEVOPS:  # it deploys what is verified whole
            before = self._check(tuple(self._builds), draw)
        is_unknown = not each.is_certain and len(values) < LEAST  # by the file: not counted
        if each.is_worked or (is_unknown and not each.is_running):
            took = 0.0
        elif took and not each.is_running:
            took += before
        return took, self._check(stage.builds, draw)

    def _check(self, builds: Sequence[str], draw: "_Draw") -> float:
        """How long builds take together."""
        times = [draw.of(self._builds[build]) for build in builds]
        return sum(times) if self._mode is Mode.SEQUENTIAL else max(times, default=0.0)

    def _schedule(
        self, took: Mapping[str, float], checked: Mapping[str, float]
    ) -> Mapping[str, float]:
        if self._mode is Mode.SEQUENTIAL:
            begun, now = {}, 0.0
            for name in took:
                begun[name] = now
                now += took[name] + checked[name]
            return begun
        if self._slots < len(took):
            return list_schedule(self._needs, self._remaining, took, self._slots, checked)
        begun, done = {}, dict[str, float]()
        for name, needs in self._needs.items():
            begun[name] = max((done[need] for need in needs), default=0.0)
            done[name] = begun[name] + took[name] + checked[name]
        return begun


class _Draw:
    """One point of the lattice; each value that is asked for is another coordinate."""

    def __init__(self, number: int) -> None:
        self._at = number

    def of(self, values: Sequence[float]) -> float:
        """One of the values."""
        self._at = self._at * _GENERATOR % _DRAWS
        return values[self._at * len(values) // _DRAWS]
