"""What people see of an account that cannot work, and how they end its wait."""

import json
from pathlib import Path

import pytest

from pipeline.model import RequirementState
from tests.e2e.conftest import Cli
from tests.eventually import eventually_async
from tests.orchestra import Orchestra, explained
from tests.orchestra_plans import BACKEND, SOLO

RESET = 4102444800
"""The first second of 2100."""
WORDS = "You have hit your session limit"

_LIMIT = {"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "resetsAt": RESET}}
_REFUSED = {"type": "result", "subtype": "success", "is_error": True, "api_error_status": 429}

_PROGRAM = """#!/bin/sh
cat > /dev/null
if [ ! -e {folder}/open ]; then
  echo '{limit}'
  echo '{refused}'
  exit 1
fi
echo hello > hello.txt
printf '{{"type":"result","subtype":"success","is_error":false,"result":"Done.",'
printf '"structured_output":{{"agent":"%s","req_number":"%s",' "$AGOG_AGENT" "$AGOG_REQUIREMENT"
printf '"status":"COMPLETE","summary":"Done."}}}}\\n'
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the program is; it works once the file `open` is there."""
    refused = {**_REFUSED, "result": WORDS}
    program = tmp_path / "claude"
    program.write_text(
        _PROGRAM.format(folder=tmp_path, limit=json.dumps(_LIMIT), refused=json.dumps(refused))
    )
    program.chmod(0o755)
    tmp_path.joinpath("agents.toml").write_text(
        f'[defaults]\nkind = "claude-code"\nprogram = "{program}"\naccount = "night"\n'
        '[builds.backend]\nkind = "simulated"\n[builds.frontend]\nkind = "simulated"\n'
    )
    return tmp_path


async def test_account_is_listed_and_a_retry_tries_it_at_once(
    orchestra: Orchestra, folder: Path
) -> None:
    cli = Cli(orchestra.environment, folder)
    await orchestra.worker.start(AGOG_AGENTS_FILE=str(folder / "agents.toml"))
    handle = await orchestra.start(SOLO)

    async def is_held(starts: int) -> bool:
        view = await orchestra.view()
        return view.stages[0].starts == starts and any(hold.account for hold in view.holds)

    await eventually_async(lambda: is_held(1), "its account holds it")
    listed = cli("accounts")
    (account,) = cli("accounts", "--json").document["accounts"]
    status, waiting = cli("status", orchestra.number), cli("list", "--waiting")
    doctor = cli("doctor", "--json").document

    assert (account["account"], account["words"], account["needs_human"]) == ("night", WORDS, False)
    assert account["until"].startswith("2100-01-01T00:00:00")
    assert [each["stage"] for each in account["held"]] == [BACKEND]
    for said in (listed.out, status.out, waiting.out):
        assert WORDS in " ".join(said.split()), said
    assert "2100-01-01" in listed.out
    assert any(WORDS in check["detail"] for check in doctor["checks"])
    assert "Nothing is known" in cli("accounts", "resume", "day").err

    assert "is tried now" in cli("retry", orchestra.number, "roy").out
    await eventually_async(lambda: is_held(2), "it has tried, and is held again")
    orchestra.worker.kill()
    folder.joinpath("open").touch()
    await orchestra.worker.start(AGOG_AGENTS_FILE=str(folder / "agents.toml"))
    assert "is tried now" in cli("retry", orchestra.number, "roy").out
    report = await handle.result()

    view = await orchestra.view()
    assert report.state is RequirementState.DELIVERED, explained(view)
    assert (view.fixes, view.stages[0].starts) == ((), 3)
    assert "Every account can work" in cli("accounts").out
