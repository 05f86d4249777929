"""The probes of `init`, asked of the real programs."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from adapters.agent_programs import find_program
from pipeline.project_proposal import Login
from tests.agents.programs import installed

pytestmark = pytest.mark.agents


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("claude-code", {"ANTHROPIC_API_KEY": "sk-ant-neutral"}),
        ("codex", {"CODEX_API_KEY": "neutral"}),
        ("gemini", {"GEMINI_API_KEY": "neutral"}),
    ],
)
def test_a_real_program_tells_its_version_and_whether_it_has_a_key(
    kind: str, key: Mapping[str, str], tmp_path: Path
) -> None:
    bare = {"PATH": f"{installed()}:{os.environ['PATH']}", "HOME": str(tmp_path), "LANG": "C.UTF-8"}

    without, with_key = find_program(kind, bare), find_program(kind, {**bare, **key})

    assert without
    assert with_key
    assert (without.login, with_key.login) == (Login.NONE, Login.KEY)
    assert without.version == with_key.version != ""
