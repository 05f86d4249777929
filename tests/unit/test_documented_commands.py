"""Every command that a document shows can be typed: its name, its arguments, its options."""

import re
import shlex
from pathlib import Path

import pytest

from cli.app import COMMANDS
from tests.reference import PAGE, reference

HOUSE = Path(__file__).parent.parent.parent
DOCUMENTS = ("README.md", *(f"docs/{page.name}" for page in sorted(HOUSE.glob("docs/*.md"))))
_CALL = re.compile(r"(?:python )?(?:/path/to/agog/)?starter\.py (.*)")


def _shown(document: str) -> list[list[str]]:
    """The arguments of each call of `starter.py` in a block of the document."""
    text = (HOUSE / document).read_text()
    blocks = re.findall(r"^ *```(?:console|bash)\n(.*?)^ *```", text, re.M | re.S)
    lines = [line.partition(" #")[0] for block in blocks for line in block.splitlines()]
    calls = [call[1].partition(" > ")[0] for line in lines if (call := _CALL.search(line))]
    return [shlex.split(call) for call in calls if not call.startswith("COMMAND")]


def _in_text(document: str) -> list[list[str]]:
    """What stands in the text between backticks and begins with a command: often not whole."""
    text = re.sub(r"```.*?```", "", (HOUSE / document).read_text(), flags=re.S)
    spans = (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text))
    calls = (shlex.split(span.removeprefix("starter.py ")) for span in spans if "'" not in span)
    return [call for call in calls if len(call) > 1 and call[0] in COMMANDS and "…" not in call]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_of_a_document_can_be_typed(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("invoices.md", "backlog.jsonl"):
        Path(name).touch()
    for name, *arguments in _shown(document):
        assert name in COMMANDS, (document, name)
        COMMANDS[name].load(name).make_context(name, list(arguments))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_option_that_a_text_names_is_there(document: str) -> None:
    for name, *words in _in_text(document):
        known = {option for each in COMMANDS[name].load(name).params for option in each.opts}
        assert {word for word in words if word.startswith("-")} <= known, (name, words)


def test_documents_show_commands() -> None:
    assert len(_shown("docs/everyday.md")) > 10
    assert len([call for document in DOCUMENTS for call in _in_text(document)]) > 20


def test_reference_says_what_the_code_says() -> None:
    assert PAGE.read_text() == reference(), "Write it again: python -m tests.reference"


def test_reference_explains_every_event() -> None:
    assert "| |" not in reference().partition("## Events")[2].replace("|  |", "| |")
