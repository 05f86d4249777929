"""`start --again`: what is copied of a requirement that has ended, to a number that is free."""

from dataclasses import dataclass
from itertools import count

from adapters.sdlc.reader import SdlcReader
from cli.connections import records
from pipeline.errors import RefusedInput
from pipeline.infrastructure import PREFIX
from pipeline.model import Pipeline, Priority
from pipeline.numbers import check_number
from settings import Settings


@dataclass(frozen=True)
class Copied:
    """A requirement as it was started, under a new number."""

    number: str
    title: str
    description: str
    priority: Priority
    plan: Pipeline
    sequential: bool
    pre_empts: bool
    target: str


async def copy_of(settings: Settings, ended: str, number: str | None) -> Copied:
    """What to start again; without a number the next free one of its own, `REQ-101-2`.

    Raises: RefusedInput if it has not ended, or no user has started it; UnknownRequirement.
    """
    check_number(ended)
    async with records(settings) as reader:
        view = await reader.requirement(ended)
        order = await reader.order(ended)
        if not view.state.is_final:
            raise RefusedInput(f"{ended} is {view.state}: only what has ended is copied.")
        if order.undo or ended.startswith(PREFIX):
            by = "`undo`" if order.undo else "Sasha"
            raise RefusedInput(f"{ended} was made by {by} and cannot be copied.")
        free = number or await _free(reader, ended)
    return Copied(
        free,
        order.title,
        view.description,
        order.priority,
        order.pipeline,
        order.sequential,
        order.pre_empts,
        order.target,
    )


async def _free(reader: SdlcReader, ended: str) -> str:
    for nth in count(2):
        number = f"{ended}-{nth}"
        if not await reader.states([number]):
            return number
    raise AssertionError("count ends")
