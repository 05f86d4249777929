"""Which stage a user means."""

from adapters.sdlc.reader import SdlcReader
from pipeline.errors import UnknownRequirement
from pipeline.numbers import slug


async def stage_name(reader: SdlcReader, number: str, said: str) -> str:
    """The stage's own name, from any spelling of it or from its agent's name.

    Raises: UnknownRequirement for the requirement or the stage.
    """
    stages = (await reader.requirement(number)).stages
    for stage in stages:
        if said == stage.stage or slug(said) in (slug(stage.stage), stage.agent):
            return stage.stage
    if not stages:
        raise UnknownRequirement(f"{number} has no stages.")
    names = ", ".join(stage.stage for stage in stages)
    raise UnknownRequirement(f"{number} has no stage {said[:80]!r}. Stages: {names}.")
