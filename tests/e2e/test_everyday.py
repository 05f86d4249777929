"""The everyday questions of docs/everyday.md, asked of a run with a limit, a P0 and a fix."""

import json
import re
import shlex
from pathlib import Path

from pipeline.model import Priority, RequirementState
from tests.e2e.conftest import ROOT, Cli, Said
from tests.eventually import eventually_async
from tests.orchestra import Orchestra, explained
from tests.orchestra_plans import SOLO, repaired

WORDS = "You have hit your session limit"
_LIMIT = {"type": "rate_limit_event", "rate_limit_info": {"status": "rejected"}}
_REFUSED = {
    "type": "result", "subtype": "success", "is_error": True, "api_error_status": 429,
    "result": WORDS,
}  # fmt: skip

_PROGRAM = """#!/bin/sh
cat > /dev/null
if [ ! -e {folder}/open ]; then
  echo '{limit}'
  echo '{refused}'
  exit 1
fi
if grep -q broken hello.txt; then echo works > hello.txt; else echo broken > hello.txt; fi
printf '{{"type":"result","subtype":"success","is_error":false,"result":"Done.",'
printf '"total_cost_usd":0.25,"structured_output":{{"agent":"%s",' "$AGOG_AGENT"
printf '"req_number":"%s","status":"COMPLETE","summary":"Greets."}}}}\\n' "$AGOG_REQUIREMENT"
"""
"""Its account cannot work at first; then it breaks the build, and repairs it in its fix."""

SAYS = {
    "diff": "+works",
    "logs": "success",
    "costs": "$0.50",
    "report": "critical path",
    "status": "DELIVERED",
    "list": "",
    "doctor": "",
}
"""What the answer to each question holds; of those that change something, see below."""


def _questions(number: str) -> list[list[str]]:
    """The commands of the page's first block, for that requirement."""
    page = (ROOT / "docs" / "everyday.md").read_text()
    (block,) = re.findall(r"```console\n(.*?)```", page, re.S)[:1]
    lines = [line.partition("#")[0].replace("REQ-101", number) for line in block.splitlines()]
    return [shlex.split(line.partition("starter.py ")[2]) for line in lines]


async def test_each_everyday_question_is_answered_by_its_command(
    orchestra: Orchestra, tmp_path: Path
) -> None:
    program, agents = tmp_path / "claude", tmp_path / "agents.toml"
    limit, refused = json.dumps(_LIMIT), json.dumps(_REFUSED)
    program.write_text(_PROGRAM.format(folder=tmp_path, limit=limit, refused=refused))
    program.chmod(0o755)
    agents.write_text(
        f'[defaults]\nkind = "claude-code"\nprogram = "{program}"\naccount = "night"\n'
        '[builds.backend]\ndirectory = "."\ncommand = ["sh", "-c", "! grep broken hello.txt"]\n'
    )
    cli = Cli({**orchestra.environment, "AGOG_AGENTS_FILE": str(agents)}, tmp_path)
    await orchestra.worker.start(AGOG_AGENTS_FILE=str(agents))
    number, urgent = orchestra.number, f"{orchestra.number}-P0"
    handle = await orchestra.start(repaired(SOLO))

    async def is_held_by(what: str) -> bool:
        return what in " ".join(cli("status", number).out.split())

    await eventually_async(lambda: is_held_by(WORDS), "its account holds it")
    assert number in cli("list", "--waiting").out
    await orchestra.accept(SOLO, number=urgent, priority=Priority.P0)
    tmp_path.joinpath("open").touch()
    cli("accounts", "resume", "night")
    await eventually_async(lambda: is_held_by(urgent), "the P0 holds it")
    await orchestra.begin(urgent)
    assert cli("cancel", urgent).code == 0
    report = await handle.result()
    assert report.state is RequirementState.DELIVERED, explained(await orchestra.view())
    assert len((await orchestra.view()).fixes) == 1

    asked = _questions(number)
    for question in asked:
        name = question[0]
        if name not in SAYS:
            continue
        said = cli(*question)
        assert (said.code, said.err) == (0, "") or name == "doctor", (question, said)
        assert SAYS[name].lower() in said.out.lower(), (question, said.out)
    assert {question[0] for question in asked} - SAYS.keys() == {"watch", "cancel", "pause"}
    _stops(cli, number)


def _stops(cli: Cli, ended: str) -> None:
    """One that has ended is not cancelled; a pause of all is told of what is started later."""
    assert cli("watch", ended).code == 0
    assert _told(cli("cancel", ended)) != ""
    assert cli("pause", "--all").code == 0
    assert cli("unpause", "--all").code == 0


def _told(said: Said) -> str:
    return said.err or said.out
