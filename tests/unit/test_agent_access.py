"""The accounts of a server are printed for agents' names alone."""

import pytest
from typer.testing import CliRunner

from cli.app import app
from pipeline.errors import RefusedInput

runner = CliRunner()


def test_accounts_are_printed_to_be_included_and_what_to_set_is_said_beside() -> None:
    said = runner.invoke(app, ["agent-access", "roy", "qa-two"])

    assert said.exit_code == 0
    assert "agent-qa-two {" in said.stdout
    assert "$AGOG_AGENT_QA_TWO_PASSWORD" in said.stdout
    assert "NATS_USER, NATS_PASSWORD, AGOG_AGENT_ROY_PASSWORD" in said.stderr


@pytest.mark.parametrize("names", [["roy", "roy"], ["agog.>"], ['x" } }'], ["Roy"]])
def test_what_could_be_more_than_a_name_is_refused(names: list[str]) -> None:
    said = runner.invoke(app, ["agent-access", *names])

    assert isinstance(said.exception, RefusedInput)
    assert not said.stdout
