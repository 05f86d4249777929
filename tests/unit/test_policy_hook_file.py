from datetime import timedelta
from pathlib import PurePath

import pytest

from pipeline.agents_file import PolicyHookCommand, read_agents
from pipeline.errors import AgentsFileRefused


def adviser(table: str) -> PolicyHookCommand | None:
    return read_agents(table, "agents.toml", PurePath("/project")).sasha


def test_without_a_table_the_rules_alone_answer() -> None:
    assert adviser("") is None


def test_a_program_advises_sasha() -> None:
    table = '[sasha]\ncommand = ["./ask", "--small"]\ntimeout_seconds = 5\nenvironment = ["KEY"]\n'

    assert adviser(table) == PolicyHookCommand(
        ("/project/ask", "--small"), timedelta(seconds=5), ("KEY",)
    )


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("[sasha]\n", "sasha.command"),
        ("[sasha]\ncommand = []\n", "sasha.command"),
        ('[sasha]\ncommand = ["ask"]\ntimeout_seconds = 0\n', "sasha.timeout_seconds"),
        ('[sasha]\ncommand = ["ask"]\ntimeout_seconds = 301\n', "sasha.timeout_seconds"),
        ('[sasha]\ncommand = ["ask"]\nkind = "command"\n', "sasha.kind"),
        ('[sasha]\ncommand = ["ask"]\nenvironment = ["A B"]\n', "sasha.environment"),
    ],
)
def test_a_bad_table_is_refused_by_its_key(table: str, key: str) -> None:
    with pytest.raises(AgentsFileRefused, match=f"agents.toml: {key}: "):
        adviser(table)
