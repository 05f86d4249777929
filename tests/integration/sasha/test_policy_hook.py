"""Sasha's own program: real processes, and a floor that they cannot go below."""

import asyncio
import json
import os
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.rule_engine import PolicyHook, RuleEngine
from pipeline.agents_file import PolicyHookCommand
from pipeline.questions import Question, RuleAnswer, Verdict
from tests.eventually import Stopwatch, eventually
from tests.fixtures_runs import is_running
from tests.rule_asking import FixedFacts

MAY_EXTEND = "May I extend my deadline?"
LIMIT = timedelta(seconds=20)


def engine(script: str, directory: Path, timeout: timedelta = LIMIT) -> RuleEngine:
    command = PolicyHookCommand(("sh", "-c", script), timeout, ("SASHA_KEY",))
    environment = {"PATH": "/usr/bin:/bin", "SASHA_KEY": "key", "OTHER": "hidden"}
    return RuleEngine(FixedFacts(), PolicyHook(command, directory, environment).advise)


async def ask(engine: RuleEngine, question: str = MAY_EXTEND) -> RuleAnswer:
    return await engine.answer(Question("roy", question, "a large migration"))


def says(answer: str, reason: str = "I think so.") -> str:
    said = json.dumps({"answer": answer, "reason": reason})
    return f"cat > told.json; env > environment; echo '{said}'"


async def test_advice_makes_an_answer_stricter(tmp_path: Path) -> None:
    answer = await ask(engine(says("no", "Not on a Friday."), tmp_path))

    assert answer.decision.answer is Verdict.NO
    assert "Not on a Friday." in answer.decision.reason
    assert answer.source == "rules; advised by Sasha's program"
    told = json.loads((tmp_path / "told.json").read_text())
    assert (told["question"], told["context"]) == (MAY_EXTEND, "a large migration")
    assert told["answer"] == "yes"
    environment = (tmp_path / "environment").read_text()
    assert "SASHA_KEY=key" in environment
    assert "hidden" not in environment


async def test_advice_never_turns_unclear_into_yes(tmp_path: Path) -> None:
    answer = await ask(engine(says("yes", "Eat it!"), tmp_path), "May I eat the cake?")

    assert answer.decision.answer is Verdict.UNCLEAR
    assert "Eat it!" not in answer.decision.reason
    assert answer.source == "rules; milder advice refused of Sasha's program"


async def test_a_no_is_final_and_nobody_is_asked(tmp_path: Path) -> None:
    answer = await ask(engine("touch asked", tmp_path), "May I downgrade this error?")

    assert (answer.decision.answer, answer.source) == (Verdict.NO, "rules")
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", "has failed"),
        (says("yes") + "; exit 1", "has failed"),
        ("kill -9 $$", "has failed"),
        ("true", "made no sense"),
        ("echo sure", "made no sense"),
        ("echo '[]'", "made no sense"),
        (says("perhaps"), "made no sense"),
        ("""echo '{"answer": "yes"}'""", "made no sense"),
        ("yes", "has failed"),  # without an end
        ("exec 0<&-; " + says("yes").partition("; ")[2], "advised by"),
    ],
)
async def test_nonsense_leaves_the_decision(tmp_path: Path, script: str, said: str) -> None:
    answer = await ask(engine(script, tmp_path))

    assert answer.decision.answer is Verdict.YES
    assert said in answer.source


async def test_a_program_that_is_not_there_leaves_the_decision(tmp_path: Path) -> None:
    hook = PolicyHook(PolicyHookCommand(("./nowhere",), LIMIT), tmp_path, {})

    answer = await ask(RuleEngine(FixedFacts(), hook.advise))

    assert answer.decision.answer is Verdict.YES
    assert answer.source == "rules; Sasha's program could not be started"


@pytest.mark.parametrize(
    ("sleeper", "is_ended"),
    [("sleep", True), ("setsid sleep", False)],
    ids=["in its group", "that left it and holds the output"],
)
async def test_a_slow_program_is_ended_whatever_its_child_does(
    tmp_path: Path, sleeper: str, is_ended: bool
) -> None:
    script = f"{sleeper} 1000 & echo $! > child; wait"

    with Stopwatch() as watch:
        answer = await ask(engine(script, tmp_path, timedelta(seconds=2)))  # its child is there

    assert answer.source == "rules; Sasha's program was too slow"
    assert watch.seconds < 10
    child = int((tmp_path / "child").read_text())
    if is_ended:
        await eventually(lambda: not is_running(child), "the end of its child")
    else:
        os.kill(child, signal.SIGKILL)


async def test_the_third_question_does_not_wait_for_the_program(tmp_path: Path) -> None:
    slow = engine("echo $$ >> started; while [ ! -e go ]; do sleep 0.05; done", tmp_path)
    asked = [asyncio.create_task(ask(slow)) for _ in range(2)]
    started = tmp_path / "started"
    await eventually(lambda: started.exists() and len(started.read_text().split()) == 2, "two")

    third = await ask(slow)

    assert third.source == "rules; Sasha's program is busy"
    assert not any(task.done() for task in asked)
    (tmp_path / "go").touch()
    assert {answer.source for answer in await asyncio.gather(*asked)} == {
        "rules; Sasha's program made no sense"
    }
