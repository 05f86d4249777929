"""Agents whose programs work with an account: what they run into, by script."""

from dataclasses import replace
from datetime import timedelta

from pipeline.agent_programs import ProgramAgent
from pipeline.agents_file import AgentsFile
from pipeline.model import Ending, Pipeline
from tests.cluster import AGENTS
from tests.fakes import Script

WORDS = "You've hit your session limit · resets 6:06am (UTC)"
LIMIT = Script(ending=Ending.USAGE_LIMIT, says=WORDS, exit_code=1)
OVERLOADED = Script(ending=Ending.OVERLOADED, says="529 Overloaded", exit_code=1)
REFUSED = Script(ending=Ending.LOGIN_REFUSED, says="Invalid API key", exit_code=1)
WORKS = Script(ending=Ending.SUCCESS)
CLAUDE = ProgramAgent("claude-code", "claude", "claude-code")


class ScriptedFile(AgentsFile):
    """Says which account an agent works with, although a script answers for its program."""

    def is_simulated(self, pipeline: Pipeline) -> bool:
        """No project is needed."""
        return True


def by(agent: ProgramAgent, **others: ProgramAgent) -> AgentsFile:
    """Every agent is that one, except the others."""
    agents = {**dict.fromkeys(AGENTS.agents, agent), **others}
    return ScriptedFile(AGENTS.source, AGENTS.directory, agents, AGENTS.builds, 0.0)


BY_CLAUDE = by(CLAUDE)


def resets_in(seconds: float, script: Script = LIMIT) -> Script:
    return replace(script, resets=timedelta(seconds=seconds))
