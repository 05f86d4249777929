"""`status`, and all that commands say of a requirement: as JSON documents and as text.

The documents are a contract with scripts; the text for people may change.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from adapters.sdlc.views import (
    BuildView,
    EscalationView,
    FailureView,
    FixView,
    GateView,
    HoldView,
    LeftoverView,
    MoveView,
    QueuedView,
    RequirementView,
    RetryView,
    StageView,
)
from cli import output
from cli.connections import records
from cli.diff import Brought, brought
from cli.estimates import Rest, rest_of
from cli.hints import (
    Hints,
    answer_of_sasha,
    broken_agents_file,
    is_under_way,
    missing_dependency,
    missing_worker,
    wrong_installation,
)
from cli.inputs import other_project
from cli.run_work import RunWork, Work
from cli.running import AsJson, Number, load_settings, run
from cli.verdict import verdict
from pipeline.budgets import Budget, is_spent
from pipeline.costs import ESTIMATED, amount, counted, told
from pipeline.model import PRE_EMPTION, Ask, Cost, RequirementState, StageState
from pipeline.pauses import Pause
from pipeline.steering import addressed
from settings import Settings

EXAMPLES = {
    "status": """
Examples:

  python starter.py status REQ-101

  python starter.py status REQ-101 --gates

  python starter.py status REQ-101 --json
"""
}

_ERROR_LINES = 15
_PAST_SHOWN = 5
_GREEN = "green"
_SILENT = timedelta(minutes=2)
"""Two tries are at most ten seconds apart, and most fail within seconds."""


def status(
    req: Number,
    gates: Annotated[
        bool, typer.Option("--gates", help="Every gate, also those that are green.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show where a requirement stands, and what to answer."""
    settings = load_settings()
    view, rest, hints, result = run(_requirement(settings, req))
    if as_json:
        told = {
            "expected": rest.document() if rest else None,
            "brought": result.document() if result else None,
        }
        output.write_json({**status_document(view), **told, **asdict(hints)})
        return
    output.data().print(full_status(view, rest, all_gates=gates), crop=False)
    if theirs := other_project(settings, view):
        output.hint(f"It was started for {theirs}; PROJECT_ROOT is {settings.project_root}.")
    for line in _merging_lines(view, RunWork(settings.home, settings.host).of(view)):
        output.hint(line)
    if result:
        output.hint(result.line())
    hints.write()


async def _requirement(
    settings: Settings, number: str
) -> tuple[RequirementView, Rest | None, Hints, Brought | None]:
    async with records(settings) as reader:
        view = await reader.requirement(number)
        rest = await rest_of(settings, reader, view)
        installation = await reader.installation()
        result = await brought(settings, reader, view)
    whose = installation.id if installation else None
    if view.state.is_final:
        return view, rest, Hints(whose), result
    stranger = asyncio.create_task(wrong_installation(settings))
    standing = await answer_of_sasha(settings) if is_under_way(view.state) else None
    missing = missing_dependency(standing, (number,))
    idle, broken = (hint(settings, [view.host]) for hint in (missing_worker, broken_agents_file))
    return view, rest, Hints(whose, missing, await stranger, idle, broken), None


def status_document(view: RequirementView) -> Mapping[str, object]:
    """The JSON of `status` and `watch`."""
    return {
        "req_number": view.number,
        "state": view.state,
        "title": view.title,
        "priority": view.priority,
        "pipeline": view.pipeline,
        "mode": view.mode,
        "round": view.round,
        "stages": [_stage_document(stage, view) for stage in view.stages],
        "gates": [asdict(gate) for gate in view.gates],
        "failures": [asdict(failure) for failure in view.failures],
        "waiting_for": view.waiting_for,
        "parent": view.parent,
        "assignee": view.assignee,
        "fixes": [fix_document(fix) for fix in view.fixes],
        "escalation": _question_document(view.escalation) if view.escalation else None,
        "queued": [asdict(queued) for queued in view.queued],
        "building": [build_document(build) for build in view.building],
        "holds": [asdict(hold) for hold in view.holds],
        "pauses": [asdict(pause) for pause in view.pauses],
        "past_holds": [asdict(hold) for hold in view.past_holds],
        "holders": [
            {"req_number": holder.number, "state": holder.state} for holder in view.holders
        ],
        "retries": [retry_document(retry) for retry in view.retries],
        "leftover": asdict(view.leftover) if view.leftover else None,
        "moves": [asdict(move) for move in view.moves],
        "turn": asdict(view.turn) if view.turn else None,
        **cost_document(view.cost),
        "budgets": [budget_document(budget) for budget in view.budgets],
        "reason": view.reason,
        "delivery": asdict(view.delivery) if view.delivery else None,
        "project": view.project,
        "host": view.host,
        "created_at": view.created_at,
        "started_at": view.started_at,
        "ended_at": view.ended_at,
    }


def _stage_document(stage: StageView, view: RequirementView) -> Mapping[str, object]:
    return {
        "stage": stage.stage,
        "agent": stage.agent,
        "state": stage.state,
        "attempt": stage.attempt,
        "starts": stage.starts,
        "resumes": stage.resumes,
        "started_at": stage.started_at,
        "ended_at": stage.ended_at,
        "reason": stage.reason,
        "is_suspended": _is_suspended(stage, view),
        "remarks": stage.remarks,
        **cost_document(stage.cost),
        "session": stage.session,
        "prepared": stage.prepared,
        "prepare_started_at": stage.prepare_started_at,
        "prepare_ended_at": stage.prepare_ended_at,
    }


def fix_document(fix: FixView) -> Mapping[str, object]:
    """The JSON of a fix within its requirement."""
    fields = asdict(fix)
    fields.pop("cost")
    return {"req_number": fields.pop("number"), **fields, **cost_document(fix.cost)}


def budget_document(budget: Budget) -> Mapping[str, object]:
    """The JSON of a budget; its dollars, and whether it has warned and asked."""
    return {
        "budget": budget.scope,
        "limit_usd": budget.limit,
        "warns_at_usd": budget.warns_at,
        "spent_usd": budget.spent,
        "reserved_usd": budget.reserved,
        "is_warned": budget.is_warned,
        "is_spent": budget.is_spent,
    }


def cost_document(cost: Cost) -> Mapping[str, object]:
    """The JSON of a cost; `usd` holds what is known of it, or null."""
    tokens = cost.tokens
    return {
        "usd": cost.usd,
        "usd_is_estimated": cost.is_estimated,
        "usd_is_partial": cost.is_partial,
        "tokens": tokens.total if tokens else None,
        "input_tokens": tokens.input if tokens else None,
        "cached_tokens": tokens.cached if tokens else None,
        "output_tokens": tokens.output if tokens else None,
    }


def build_document(build: BuildView) -> Mapping[str, object]:
    """The JSON of a build that is under way."""
    fields = asdict(build)
    return {"req_number": fields.pop("number"), **fields}


def retry_document(retry: RetryView) -> Mapping[str, object]:
    """The JSON of a step that fails and is retried."""
    fields = asdict(retry)
    return {"req_number": fields.pop("number"), **fields}


def _question_document(escalation: EscalationView) -> Mapping[str, object]:
    """An open question, so without the fields of an answer."""
    return {
        "escalation": escalation.escalation,
        "round": escalation.round,
        "asks": [asdict(ask) for ask in escalation.asks],
        "answers": escalation.answers,
        "created_at": escalation.created_at,
        "reminders": escalation.reminders,
    }


def full_status(
    view: RequirementView, rest: Rest | None = None, *, all_gates: bool = False
) -> RenderableType:
    """Everything that `status` shows, from what matters most: verdict, question, what is red.

    How long it takes yet stands below the verdict. Then what is under way and stages, fixes, past
    holds; gates that are green in one line.
    """
    about = f"{view.priority} {output.plain(view.title)} ({view.pipeline}, {view.mode})"
    yet = [output.unfolded(Text(rest.line()))] if rest else []
    said = output.plain(verdict(view)) if not view.state.is_final else ""
    heading = Text.assemble(f"{view.number} ", output.styled(view.state), f" {said}".rstrip())
    past = map(Text, _past_hold_lines(view))
    gates = _gates(view, all_of_them=all_gates)
    return Group(heading, about, *yet, report(view), overview(view), *past, *gates)


def overview(view: RequirementView) -> RenderableType:
    """What keeps it waiting, its stages, its cost and its fixes."""
    parts: list[RenderableType] = []
    if view.parent:
        parts.append(Text(f"A fix by {view.assignee}; it repairs {view.parent}."))
    waits = [*pause_lines(view.pauses), *(hold_line(hold, view) for hold in view.holds)]
    waits += [*release_lines(view), *map(queued_line, view.queued)]
    waits += [*retry_lines(view.retries, view.number), *map(building_line, view.building)]
    waits += [f"{each.stage}: {preparing_line(each)}" for each in view.stages if each.is_preparing]
    parts += [output.unfolded(Text(line)) for line in waits]
    if view.stages:
        parts.append(_stages_table(view))
    if view.cost.is_known:
        parts.append(costs_line(view.cost, view.stages))
    parts += map(Text, budget_lines(view))
    # below the table: within it they would squeeze the other columns on a narrow terminal
    parts += [
        f"{stage.stage} {stage.state}: {output.plain(output.first_line(stage.reason))}"
        for stage in view.stages
        if stage.reason and stage.state not in (StageState.HELD, StageState.BLOCKED)
    ]  # the hold says more; what blocks is shown as red
    if line := blocked_line(view):
        parts.append(line)
    parts += [
        f"{stage.stage}: {output.plain(output.first_line(remark))}"
        for stage in view.stages
        for remark in stage.remarks
    ]
    if prepared := [stage for stage in view.stages if stage.prepare_ended_at]:
        took = (f"{stage.stage} {_prepare_time(stage)}" for stage in prepared)
        parts.append(output.plain(f"Clones prepared before their agents: {', '.join(took)}"))
    if view.fixes:
        parts.append(fixes_part(view.fixes))
    parts += [output.unfolded(Text(move_line(move))) for move in view.moves]
    if view.leftover:
        parts.append(output.unfolded(Text(leftover_line(view.leftover))))
    return Group(*parts)


def report(view: RequirementView) -> RenderableType:
    """What the requirement waits for, the question to a human, and all failures."""
    parts: list[RenderableType] = []
    if view.waiting_for:
        parts.append(f"Waiting for: {view.waiting_for}")
    if view.escalation:
        parts += _question(view, view.escalation)
    parts += [failure_text(failure) for failure in view.failures]
    # a blocked or held requirement's failures and holds say more than its reason
    if view.reason and (view.state.is_final or not (view.failures or view.holds)):
        parts.append(output.plain(view.reason))
    return Group(*parts)


def failure_text(failure: FailureView) -> Text:
    """A failure's gate, its owners, and the first lines of its error."""
    owners = ", ".join(failure.owners) or "nobody"
    lines = output.plain(failure.error).splitlines()
    shown = [*lines[:_ERROR_LINES], *(["…"] if len(lines) > _ERROR_LINES else [])]
    if failure.log_reference:
        shown.append(f"log: {failure.log_reference}")
    body = "".join(f"\n    {line}" for line in shown)
    title = Text.assemble(("❌ ", "red"), (failure.gate, "bold"), f" ({owners})")
    return output.unfolded(title.append(body))


def blocked_line(view: RequirementView) -> str:
    """All stages that are blocked, in one line; empty if there are none."""
    blocked = [stage.stage for stage in view.stages if stage.state is StageState.BLOCKED]
    return f"Blocked: {len(blocked)} need what failed: {', '.join(blocked)}" if blocked else ""


def fixes_part(fixes: Sequence[FixView]) -> RenderableType:
    """The fixes as a table, and the reason of each that has ended."""
    costs = ("tokens", "cost") if any(fix.cost.is_known for fix in fixes) else ()
    rows = output.table(
        "fix", "owner", "gate", "depth", "state", *costs, numbers=("depth", *costs), fold=("gate",)
    )
    for fix in fixes:
        rows.add_row(
            fix.number,
            fix.assignee,
            fix.gate,
            str(fix.depth),
            output.styled(fix.state),
            *(money(fix.cost) if costs else ()),
        )
    ended = [fix for fix in fixes if fix.state.is_final]
    return Group(
        rows,
        *(output.plain(f"{fix.number}: {output.first_line(fix.reason)}") for fix in ended),
    )


def _stages_table(view: RequirementView) -> Table:
    costs = ("tokens", "cost") if view.cost.is_known else ()
    resumes = ("resumes",) if any(stage.resumes for stage in view.stages) else ()
    rows = output.table(
        "stage", "agent", "state", "attempt", "starts", *resumes, "start", "took", *costs,
        numbers=("attempt", "starts", *resumes, "took", *costs), fold=("stage",),
    )  # fmt: skip
    queued = {each.stage for each in view.queued}
    for stage in view.stages:
        waits = "queued" if stage.stage in queued else ""
        waits = "preparing" if stage.is_preparing else waits
        waits = "suspended" if _is_suspended(stage, view) else waits
        rows.add_row(
            stage.stage,
            stage.agent,
            Text(waits, "yellow") if waits else output.styled(stage.state),
            str(stage.attempt or ""),
            str(stage.starts or ""),
            *((str(stage.resumes or ""),) if resumes else ()),
            output.clock(stage.started_at),
            _duration(stage),
            *(money(stage.cost) if costs else ()),
        )
    return rows


def money(cost: Cost) -> tuple[str, str]:
    """Tokens and dollars, as two columns."""
    return counted(cost.tokens.total if cost.tokens else None), amount(cost)


def costs_line(cost: Cost, stages: Sequence[StageView] = ()) -> str:
    """The whole cost, with what its marks mean; stages of unknown cost are named."""
    notes = [f"{ESTIMATED} estimated from tokens"] if cost.is_estimated else []
    if cost.is_partial:
        unknown = ", ".join(stage.stage for stage in stages if stage.cost.is_partial)
        notes.append(f"not all is known of {unknown}" if unknown else "not all is known")
    return "; ".join((f"Cost: {told(cost)}", *notes))


def budget_lines(view: RequirementView) -> Iterator[str]:
    """Each budget that the requirement counts in, and how to raise one that is spent.

    The reason of a hold has said that already.
    """
    told = {hold.budget for hold in view.holds}
    for budget in view.budgets:
        if budget.limit is None and not budget.is_warned:
            continue
        if budget.is_spent and not view.state.is_final and budget.scope not in told:
            yield is_spent(budget, view.number)
        else:
            marks = "; it has warned" if budget.is_warned else ""
            yield f"The {budget.name}: {budget.used} are spent{marks}."


def preparing_line(stage: StageView) -> str:
    """For which builds the stage's clone is, or was, prepared before its agent starts."""
    builds = " and ".join(stage.prepared)
    if stage.prepare_ended_at:
        return output.plain(f"its clone was prepared for {builds} in {_prepare_time(stage)}")
    return output.plain(f"its clone is being prepared for {builds}, {_prepare_time(stage)} by now")


def _merging_lines(view: RequirementView, work: Mapping[str, Work]) -> Iterator[str]:
    """Stages whose agents have ended, while their work is taken over and merged."""
    for stage in view.stages:
        ended_at = work[stage.stage].agent_ended_at if stage.stage in work else None
        if ended_at:
            took = output.duration(lasted(ended_at))
            yield f"{stage.stage}: its work is taken over and merged, {took} by now"


def building_line(build: BuildView) -> str:
    """A build that is under way: whose commit, and how long it has taken so far."""
    took = output.duration(lasted(build.started_at))
    what = f"build {build.build} of {build.stage} ({build.agent})"
    return output.plain(f"{what} on {build.commit[:10]} is under way, {took} by now")


def lasted(since: datetime, until: datetime | None = None) -> float:
    """Seconds from then to that time, or to now; never below 0: clocks differ between hosts."""
    return max(0.0, ((until or datetime.now(UTC)) - since).total_seconds())


def _prepare_time(stage: StageView) -> str:
    assert stage.prepare_started_at
    return output.duration(lasted(stage.prepare_started_at, stage.prepare_ended_at))


def _duration(stage: StageView) -> str:
    if not stage.started_at:
        return ""
    return output.duration(lasted(stage.started_at, stage.ended_at))


def _gates(view: RequirementView, *, all_of_them: bool) -> Iterator[RenderableType]:
    """Gates that are red as rows, the others counted and builds named; or all as rows."""
    latest = {gate.gate: gate for gate in view.gates}
    red = [gate for gate in latest.values() if gate.verdict != _GREEN]
    green = [gate for gate in latest.values() if gate.verdict == _GREEN]
    if all_of_them and view.gates:
        yield _gates_table(view.gates)
        return
    if red:
        yield _gates_table(red)
    if green:
        builds = ", ".join(output.plain(gate.gate) for gate in green if gate.clean is not None)
        named = f" ({builds} among them)" if builds else ""
        yield f"Green gates: {len(green)}{named}: python starter.py status {view.number} --gates"


def _gates_table(gates: Sequence[GateView]) -> Table:
    rows = output.table("gate", "verdict", "commit", "what ran", "at")
    for gate in gates:
        colour = Text(gate.verdict, style="green" if gate.verdict == _GREEN else "bold red")
        ran, ended_at = _what_ran(gate), output.clock(gate.ended_at)
        rows.add_row(gate.gate, colour, gate.commit[:10], ran, ended_at)
    return rows


def _what_ran(gate: GateView) -> str:
    """For a build: whether it was clean, and how long each of its commands took."""
    if gate.clean is None:
        return ""
    steps = (f"{step['name']} {float(str(step['seconds'])):.1f} s" for step in gate.steps)
    return ", ".join(("clean" if gate.clean else "incremental", *steps))


def _question(view: RequirementView, escalation: EscalationView) -> Iterator[RenderableType]:
    """The questions to a human, and the commands that answer them."""
    reminded = f", reminders: {escalation.reminders}" if escalation.reminders else ""
    yield f"Asked since {output.since(escalation.created_at, datetime.now(UTC))}{reminded}:"
    for ask in escalation.asks:
        yield f"  {ask_line(ask)}"
    yield "Possible answers:"
    for answer in escalation.answers:
        yield output.unfolded(Text(f"  python starter.py {addressed(answer, view.number)}"))


def ask_line(ask: Ask) -> str:
    """Why a human is asked; most reasons already name the gate or stage."""
    is_named = ask.gate in ask.reason or ask.stage in ask.reason
    return output.plain(ask.reason if is_named else f"{ask.gate}: {ask.reason}")


def queued_line(queued: QueuedView) -> str:
    """A stage that is queued for a slot: its place, the slots in use, and why there are fewer."""
    place = f"place {queued.place} of {queued.waiting}"
    if queued.slots is not None:
        place += f", {queued.used} of {queued.slots} slots used"
        if queued.slots != queued.configured:
            place += f"; {queued.configured} are configured, {queued.why}"
    since = output.since(queued.since, datetime.now(UTC))
    return output.plain(
        f"{queued.stage} is queued for a slot on {queued.host} since {since}: {place}"
    )


def retry_lines(retries: Sequence[RetryView], number: str = "") -> Iterator[str]:
    """Each step that fails now: since when, how often, the last time, and its error.

    The steps of `number` itself are named without it.
    """
    now = datetime.now(UTC)
    for retry in retries:
        whose = "" if retry.number == number else f"{retry.number}: "
        times = "once" if retry.tries == 1 else f"{retry.tries} times"
        yield output.plain(
            f"Retrying {whose}{retry.step} since {output.since(retry.since, now)}: "
            f"failed {times}, last at {output.clock(retry.last_at)}: "
            f"{output.first_line(retry.error)}"
        )
        if (silence := now - retry.last_at) > _SILENT:
            yield (
                f"  {retry.host} has not tried for {output.duration(silence.total_seconds())}."
                " Is its worker running? python starter.py doctor"
            )


def move_line(move: MoveView) -> str:
    """From which lost host it has moved, where to, and what has become of the rest."""
    at = f" at {move.head_commit[:10]}" if move.head_commit else ""
    rest = (
        f"What was left on {move.lost} is cleaned up."
        if move.cleaned_at
        else f"What is left on {move.lost} ends once that is back."
    )
    return output.plain(
        f"Host {move.lost} was lost: {move.host} continues{at} since {output.moment(move.at)}."
        f" No try was spent. {rest}"
    )


def leftover_line(leftover: LeftoverView) -> str:
    """What the end of a requirement left on its host, which keeps trying to clean up."""
    if leftover.cleaned_at:
        return f"What it left on {leftover.host} is cleaned up."
    return output.plain(
        f"Not cleaned up on {leftover.host}, which keeps trying: "
        f"{output.first_line(leftover.reason)}"
    )


def pause_lines(pauses: Sequence[Pause]) -> Iterator[str]:
    """What a human keeps from starting, since when, and the command that ends it."""
    return (output.plain(pause.reason) for pause in pauses)


def pre_emption_lines(view: RequirementView) -> Iterator[str]:
    """The holds that suspend agents: a suspended stage's state is still RUNNING."""
    return (hold_line(hold, view) for hold in view.holds if hold.boundary == PRE_EMPTION)


def release_lines(view: RequirementView) -> Iterator[str]:
    """The command that removes a blocker which has ended without being delivered."""
    for holder in view.holders:
        if holder.state.is_final and holder.state is not RequirementState.DELIVERED:
            yield (
                f"{holder.number} is {holder.state} and will not be delivered. Continue without it:"
            )
            yield f"  python starter.py unblock {view.number} --by {holder.number}"


def _past_hold_lines(view: RequirementView) -> Iterator[str]:
    """How long all past holds took together, and the latest of them."""
    past = view.past_holds
    if not past:
        return
    took = sum((_length(hold) for hold in past), timedelta()).total_seconds()
    yield f"Past holds: {len(past)}, {output.duration(took)} in total"
    for hold in past[-_PAST_SHOWN:]:
        lasted = output.duration(_length(hold).total_seconds())
        at = output.since(hold.since, datetime.now(UTC))
        yield output.plain(f"  {at} {lasted} at {hold.boundary} by {', '.join(hold.held_by)}")


def _length(hold: HoldView) -> timedelta:
    return (hold.ended_at or hold.since) - hold.since


def hold_line(hold: HoldView, view: RequirementView) -> str:
    """What holds it at which boundary, since when and why; a pause has a line of its own."""
    states = {holder.number: f" ({holder.state})" for holder in view.holders}
    by = ", ".join(f"{name}{states.get(name, '')}" for name in hold.held_by)
    since = output.since(hold.since, datetime.now(UTC))
    what = "Agents suspended" if hold.boundary == PRE_EMPTION else f"Held at {hold.boundary}"
    reason = output.first_line(hold.reason)
    for pause in view.pauses:
        reason = reason.replace(pause.reason, "").strip()
    return output.plain(f"{what} since {since} by {by}{f': {reason}' if reason else ''}")


def _is_suspended(stage: StageView, view: RequirementView) -> bool:
    """Whether the stage's agent is suspended, or is about to be."""
    is_pre_empted = any(hold.boundary == PRE_EMPTION for hold in view.holds)
    return is_pre_empted and stage.state is StageState.RUNNING
