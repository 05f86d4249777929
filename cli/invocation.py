"""How our commands are called from where the user stands."""

import re
import shlex
from contextlib import suppress
from pathlib import Path

STARTER = Path(__file__).parent.parent / "starter.py"

_COMMAND = re.compile(r"(?<![\w./-])(?:python )?(starter|worker)\.py\b")


def as_called(text: str) -> str:
    """The text with our commands as they can be typed in the current directory."""
    with suppress(FileNotFoundError):  # it is gone
        if Path.cwd() == STARTER.parent:
            return text
    return _COMMAND.sub(
        lambda found: f"python {shlex.quote(str(STARTER.with_name(f'{found[1]}.py')))}", text
    )
