"""`python -m bench.worker_process bare|ours`: a contender's worker, so that it can be measured.

Ours takes its settings from the environment, as `worker.py` does. Both serve until SIGTERM.
"""

import asyncio
import cProfile
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from bench.bare import bare_worker
from settings import Settings
from worker import configure_logging, serve


async def serve_bare(address: str) -> None:
    """Run the bare workflow's Worker."""
    client = await Client.connect(address, data_converter=pydantic_data_converter)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with bare_worker(client):
        await stop.wait()


def main(contender: str, profile: Path | None) -> None:
    """Serve; `profile` is where the event loop's profile goes."""
    settings = Settings()
    configure_logging(settings.log_level)
    profiler = cProfile.Profile() if profile else None
    with profiler or nullcontext():
        if contender == "ours":
            asyncio.run(serve(settings))
        else:
            asyncio.run(serve_bare(settings.temporal_address or ""))
    if profiler and profile:
        profiler.dump_stats(profile)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    # The SDK's threads can abort the interpreter while it finalizes; nothing is left to do.
    os._exit(0)
