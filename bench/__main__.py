"""`python -m bench`: measures the contenders against each other and prints the table."""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console
from temporalio.runtime import Runtime

from adapters.sdlc.migrate import upgrade
from adapters.sdlc.store import create_store
from adapters.temporal.client import quiet_runtime
from bench.boundaries import measure_boundaries
from bench.contenders import Bare, Contender, Ours, Plain
from bench.figures import batches, figures, metrics
from bench.ground import Ground, running_ground
from bench.machine import describe_machine, describe_versions, load
from bench.measuring import Measuring, Sample
from bench.report import Result
from cli.running import run

_PROGRESS = Console(stderr=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    options = _parser().parse_args(arguments)
    if options.quick:
        options.rounds, options.crowd, options.rush, options.side_by_side = 1, 5, 20, 3
    if options.profile:
        options.profile.mkdir(parents=True, exist_ok=True)
    Runtime.set_default(quiet_runtime("temporal.core"), error_if_already_set=False)
    with tempfile.TemporaryDirectory(prefix="agog-bench-") as directory:
        result = run(_bench(Path(directory), options))
    if options.json:
        print(json.dumps(result.document(), ensure_ascii=False, indent=2))
    else:
        console = Console(width=None if sys.stdout.isatty() else 140)
        console.print(result.boundary_table(), result.table())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small round: does it run at all")
    parser.add_argument("--json", action="store_true", help="one JSON document with every sample")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--crowd", type=int, default=50, help="at once with work; default: 50")
    parser.add_argument("--rush", type=int, default=200, help="at once without; default: 200")
    parser.add_argument(
        "--side-by-side", type=int, default=20, help="at once with real processes; default: 20"
    )
    parser.add_argument("--profile", type=Path, help="directory for cProfile data of the workers")
    return parser


async def _bench(directory: Path, options: argparse.Namespace) -> Result:
    _say("Starting servers and workers …")
    machine, load_before = describe_machine(), load()
    async with AsyncExitStack() as stack:
        ground = await stack.enter_async_context(running_ground(directory, options.profile))
        contenders = await _contenders(ground, stack)
        samples = await _measure(Measuring(ground, contenders), options)
        versions = await describe_versions(ground)
    _say("Starting real processes …")
    processes = directory / "processes"
    processes.mkdir()
    measured = await measure_boundaries(processes, options.rounds, options.side_by_side)
    found = figures(samples, metrics(options.crowd, options.rush))
    loads = {"load_before": load_before, "load_after": load()}
    return Result(options.rounds, {**machine, **loads}, versions, found, measured, samples)


async def _contenders(ground: Ground, stack: AsyncExitStack) -> tuple[Contender, ...]:
    await asyncio.to_thread(upgrade, ground.addresses.database_url)
    store = create_store(ground.addresses.database_url)
    stack.push_async_callback(store.close)
    return (Plain(), Bare(ground.client), await Ours.connect(ground.client, store))


async def _measure(measuring: Measuring, options: argparse.Namespace) -> list[Sample]:
    await measuring.warm_up()
    samples = []
    for round_, contender in measuring.turns(options.rounds):
        for batch in batches(options.crowd, options.rush):
            sample = await measuring.sample(round_, contender, batch)
            _say(f"round {round_}: {contender.name}, {batch.name}: {sample.seconds:.2f} s")
            samples.append(sample)
    return samples


def _say(text: str) -> None:
    _PROGRESS.print(text, highlight=False)


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        code = 130
    sys.stdout.flush()
    # The SDK's threads can abort the interpreter while it finalizes; nothing is left to do.
    os._exit(code)
