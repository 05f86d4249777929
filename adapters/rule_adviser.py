"""Sasha's own program: a one-shot process that is told a question and the ruling on it."""

import asyncio
import json
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from pathlib import PurePath

from adapters.programs import exited, running
from adapters.runs.kinds import PASSED_ON
from pipeline.adviser_file import AdviserCommand
from pipeline.errors import AdviserFailed, MessageRefused
from pipeline.rule_messages import MESSAGE_BYTES, read_advice
from pipeline.rulings import Question, Ruling, Verdict

AT_ONCE = 2
"""Programs beside the agents, which have slots of their own; further questions do without."""


class ProgramAdviser:
    """Runs the program of the agents file, at most two at a time."""

    def __init__(
        self, adviser: AdviserCommand, directory: PurePath, environment: Mapping[str, str]
    ) -> None:
        self._adviser = adviser
        self._directory = directory
        names = (*PASSED_ON, *adviser.environment)
        self._variables = {name: environment[name] for name in names if name in environment}
        self._running = 0

    async def advise(self, question: Question, ruling: Ruling) -> tuple[Verdict, str]:
        """What it answers, and why. Raises: AdviserFailed, at once if two are running."""
        if self._running >= AT_ONCE:
            raise AdviserFailed("Sasha's program is busy")
        self._running += 1
        try:
            return read_advice(await self._run(_told(question, ruling)))
        except MessageRefused as refusal:
            raise AdviserFailed("Sasha's program made no sense") from refusal
        finally:
            self._running -= 1

    async def _run(self, told: bytes) -> bytes:
        start = asyncio.create_subprocess_exec(
            *self._adviser.command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            cwd=self._directory,
            env=self._variables,
            start_new_session=True,
        )
        try:
            async with running(start, _end) as process:
                async with asyncio.timeout(self._adviser.timeout.total_seconds()):
                    said = await _converse(process, told)
        except TimeoutError as error:
            raise AdviserFailed("Sasha's program was too slow") from error
        except OSError as error:
            raise AdviserFailed("Sasha's program could not be started") from error
        if process.returncode != 0:
            raise AdviserFailed("Sasha's program has failed")
        return said


def _told(question: Question, ruling: Ruling) -> bytes:
    return json.dumps(
        {
            "requestingAgent": question.agent,
            "question": question.question,
            "context": question.context,
            "answer": str(ruling.answer),
            "rule": ruling.rule,
            "reason": ruling.reason,
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
