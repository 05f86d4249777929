"""Entry point of the program of kind `nats`: `python -I remote_run.py`, started by a supervisor.

Isolated mode keeps out what its working directory, a clone, might bring along. It also hides this
project, so the entry point adds that again.
"""

import asyncio
import logging
import signal
import sys
from contextlib import suppress
from os.path import abspath, dirname
from pathlib import Path

sys.path.insert(0, dirname(dirname(abspath(__file__))))


async def _follow() -> int:
    from adapters.remote.order import RemoteRun, print_event, run_of
    from adapters.runs.kinds import RUN_DIRECTORY_VARIABLE
    from hosting.logins import nats_login
    from settings import load_settings, process_environment

    settings = load_settings()
    home = settings.home.resolve()
    place = Path(process_environment()[RUN_DIRECTORY_VARIABLE])
    remote = RemoteRun(home, run_of(home, place), nats_login(settings), print_event)
    following = asyncio.create_task(remote.follow())
    # Told to end, it tells whoever does the work.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, following.cancel)
    with suppress(asyncio.CancelledError):
        return await following
    await remote.stop()
    return 1


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    sys.exit(asyncio.run(_follow()))
