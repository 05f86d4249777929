"""The whole answer to a question about the rules: the rule engine, facts, and a second opinion."""

import asyncio
import json
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import PurePath

from adapters.programs import exited, running
from adapters.runs.kinds import PASSED_ON
from pipeline.agents_file import PolicyHookCommand
from pipeline.errors import (
    DependencyUnavailable,
    MessageRefused,
    PolicyHookFailed,
    UnknownRequirement,
)
from pipeline.ports import RuleFacts
from pipeline.questions import (
    Decision,
    Question,
    RequirementFacts,
    RuleAnswer,
    Verdict,
    under_floor,
)
from pipeline.rule_messages import MESSAGE_BYTES, read_advice
from pipeline.rules import decide

RULES = "rules"


SecondOpinion = Callable[[Question, Decision], Awaitable[tuple[Verdict, str]]]
"""An answer and why, for a decision that is not a no yet. Raises: PolicyHookFailed."""


class RuleEngine:
    """Answers questions; `source` of an answer says what it was made from."""

    def __init__(self, facts: RuleFacts, second_opinion: SecondOpinion | None = None) -> None:
        self._facts = facts
        self._second_opinion = second_opinion

    async def answer(self, question: Question) -> RuleAnswer:
        """The answer, in a bounded time, whatever cannot be reached."""
        facts, source = await self._known(question.number)
        decision = decide(question, facts)
        # a no is final: nobody needs to pay for a second opinion
        if self._second_opinion is None or decision.answer is Verdict.NO:
            return RuleAnswer(question, decision, source)
        try:
            answer, reason = await self._second_opinion(question, decision)
        except PolicyHookFailed as failure:
            return RuleAnswer(question, decision, f"{source}; {failure}")
        advised = under_floor(decision, answer, reason)
        taken = "advised by" if advised is not decision else "milder advice refused of"
        return RuleAnswer(question, advised, f"{source}; {taken} Sasha's program")

    async def _known(self, number: str) -> tuple[RequirementFacts | None, str]:
        if not number:
            return None, RULES
        try:
            return await self._facts.of(number), f"{RULES} and the SDLC database"
        except UnknownRequirement as unknown:
            return None, f"{RULES}; {str(unknown).rstrip('.').replace('There', 'there', 1)}"
        except DependencyUnavailable:
            return None, f"{RULES}; the SDLC database cannot be reached"


AT_ONCE = 2
"""Programs beside the agents, which have slots of their own; further questions do without."""


class PolicyHook:
    """Sasha's program in the agents file: one process per question, at most two at a time."""

    def __init__(
        self, hook: PolicyHookCommand, directory: PurePath, environment: Mapping[str, str]
    ) -> None:
        self._hook = hook
        self._directory = directory
        names = (*PASSED_ON, *hook.environment)
        self._variables = {name: environment[name] for name in names if name in environment}
        self._running = 0

    async def advise(self, question: Question, decision: Decision) -> tuple[Verdict, str]:
        """What it answers, and why. Raises: PolicyHookFailed, at once if two are running."""
        if self._running >= AT_ONCE:
            raise PolicyHookFailed("Sasha's program is busy")
        self._running += 1
        try:
            return read_advice(await self._run(_told(question, decision)))
        except MessageRefused as refusal:
            raise PolicyHookFailed("Sasha's program made no sense") from refusal
        finally:
            self._running -= 1

    async def _run(self, told: bytes) -> bytes:
        start = asyncio.create_subprocess_exec(
            *self._hook.command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            cwd=self._directory,
            env=self._variables,
            start_new_session=True,
        )
        try:
            async with running(start, _end) as process:
                async with asyncio.timeout(self._hook.timeout.total_seconds()):
                    said = await _converse(process, told)
        except TimeoutError as error:
            raise PolicyHookFailed("Sasha's program was too slow") from error
        except OSError as error:
            raise PolicyHookFailed("Sasha's program could not be started") from error
        if process.returncode != 0:
            raise PolicyHookFailed("Sasha's program has failed")
        return said


def _told(question: Question, decision: Decision) -> bytes:
    return json.dumps(
        {
            "requestingAgent": question.agent,
            "question": question.question,
            "context": question.context,
            "answer": str(decision.answer),
            "rule": decision.rule,
            "reason": decision.reason,
        }
    ).encode()


async def _converse(process: Process, told: bytes) -> bytes:
    """Tell it everything and take a bounded answer until it ends."""
    assert process.stdin
    assert process.stdout
    with suppress(ConnectionError):  # it may answer without listening
        process.stdin.write(told)
        await process.stdin.drain()
    process.stdin.close()
    said = b""
    while len(said) <= MESSAGE_BYTES and (part := await process.stdout.read(MESSAGE_BYTES)):
        said += part
    if len(said) <= MESSAGE_BYTES:
        await process.wait()
    return said


async def _end(process: Process) -> None:
    """Leave nothing behind, whatever it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await exited(process)
