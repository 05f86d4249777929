"""Sasha's desk on this host: she answers questions about the rules, and moves deadlines."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from temporalio.client import Client

from adapters.extension_desk import ExtensionDesk
from adapters.rule_adviser import ProgramAdviser
from adapters.rule_counsel import RuleCounsel
from adapters.rule_desk import RuleDesk
from adapters.rule_facts import create_rule_facts
from adapters.temporal.messages import TemporalExtender
from hosting.caring import nats_login
from pipeline.agents_file import AgentsFile
from pipeline.installation import Queues
from settings import Settings
from workflows.requirement import RequirementWorkflow


@asynccontextmanager
async def rule_desk(
    settings: Settings, client: Client, queues: Queues, agents: AgentsFile
) -> AsyncIterator[RuleDesk]:
    """Sasha's desk, answering until the block ends. Raises: DependencyUnavailable."""
    facts = create_rule_facts(settings.database_url.get_secret_value())
    environment = settings.children_environment
    adviser = ProgramAdviser(agents.sasha, agents.directory, environment) if agents.sasha else None
    extender = TemporalExtender(client, queues, RequirementWorkflow.extend)
    desk = RuleDesk(
        nats_login(settings), RuleCounsel(facts, adviser), ExtensionDesk(facts, extender)
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(facts.close)
        await desk.start()
        stack.push_async_callback(desk.stop)
        yield desk
