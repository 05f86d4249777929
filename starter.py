"""The command line: see `python starter.py --help`.

Any Python may start it: one without our packages starts it again with that of `.venv` beside it.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
OLDEST = (3, 11)
REFUSED = 2
"""As in `cli.running`, which cannot be read here."""

__all__ = ["main"]


def start_again(reason: str) -> None:
    """Replace this process by the Python of `.venv`; end it where there is none."""
    python = VENV / "bin" / "python"
    if python.exists() and (VENV / "pyvenv.cfg").exists() and not VENV.samefile(sys.prefix):
        os.execv(python, [str(python), str(ROOT / "starter.py"), *sys.argv[1:]])
    sys.stderr.write(
        f"Error: {sys.executable} lacks what the orchestrator needs: {reason}."
        f" Install it once: make -C {ROOT} setup\n"
    )
    sys.exit(REFUSED)


# Nothing but the standard library may be imported before this, and an older Python must be able
# to read the file.
try:
    if sys.version_info < OLDEST:
        raise ModuleNotFoundError("Python 3.11 or newer")
    from cli.app import main
except ModuleNotFoundError as missing:
    if __name__ != "__main__":
        raise
    start_again(str(missing))

if __name__ == "__main__":
    main()
