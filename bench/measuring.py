"""Rounds of batches: contenders alternate, so that a busy moment of the machine hits all alike."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import psutil

from bench.contenders import Contender
from bench.ground import Ground


def cpu_seconds(pid: int) -> float:
    """Processor time that the tree below that process has used so far, ended children included."""
    root = psutil.Process(pid)
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue  # it ended just now: its parent counts it from here on
        total += times.user + times.system + times.children_user + times.children_system
    return total


def resident_bytes(pid: int) -> int:
    """Resident memory of that process now."""
    return int(psutil.Process(pid).memory_info().rss)


WORKER = "worker"
"""Key of the worker's own processor time, beside the names of the servers."""


@dataclass(frozen=True)
class Batch:
    """Requirements that are started at once; `is_working` if their stages take time."""

    name: str
    requirements: int
    is_working: bool


@dataclass(frozen=True)
class Sample:
    """One batch of one contender in one round."""

    round: int
    contender: str
    batch: str
    requirements: int
    seconds: float
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)
    """Processor time by process: the worker and each server."""
    resident_bytes: int = 0
    """Memory of the worker after the batch."""
    history_events: int = 0
    history_bytes: int = 0
    """Of the batch's last requirement."""


class WorkerDied(Exception):
    """A worker process ended while it was measured; its log says why."""


@dataclass(frozen=True)
class Measuring:
    """Measures contenders on one ground."""

    ground: Ground
    contenders: Sequence[Contender]

    async def warm_up(self) -> None:
        """Let every contender run once: caches, connections and statements are there after it."""
        for contender in self.contenders:
            await self.sample(0, contender, Batch("warm", 1, is_working=False))

    def turns(self, rounds: int) -> Iterator[tuple[int, Contender]]:
        """Who comes next: the order is turned round from round to round."""
        for number in range(1, rounds + 1):
            order = self.contenders if number % 2 else self.contenders[::-1]
            yield from ((number, contender) for contender in order)

    async def sample(self, round_: int, contender: Contender, batch: Batch) -> Sample:
        """Run one batch. Raises: NotDelivered, WorkerDied."""
        prefix = f"REQ-{batch.name}-{round_}-{contender.name}"
        numbers = [f"{prefix}-{index}" for index in range(1, batch.requirements + 1)]
        before, began = self._cpu(contender.name), time.perf_counter()
        await self._run(contender, numbers, batch)
        seconds, after = time.perf_counter() - began, self._cpu(contender.name)
        events, size = await self._history(contender.name, numbers[-1])
        return Sample(
            round_,
            contender.name,
            batch.name,
            batch.requirements,
            seconds,
            {name: after[name] - before[name] for name in after},
            self._resident(contender.name),
            events,
            size,
        )

    async def _run(self, contender: Contender, numbers: Sequence[str], batch: Batch) -> None:
        work = asyncio.ensure_future(contender.run(numbers, is_working=batch.is_working))
        ends = [asyncio.ensure_future(each.exited()) for each in self.ground.workers.values()]
        try:
            await asyncio.wait([work, *ends], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                logs = ", ".join(str(each.log) for each in self.ground.workers.values())
                raise WorkerDied(f"A worker ended: see {logs}.")
            work.result()
        finally:
            for task in (work, *ends):
                task.cancel()

    def _cpu(self, contender: str) -> dict[str, float]:
        worker = self.ground.workers.get(contender)
        if not worker:
            return {WORKER: time.process_time()}
        pids = {WORKER: worker.pid, **self.ground.servers}
        return {name: cpu_seconds(pid) for name, pid in pids.items()}

    def _resident(self, contender: str) -> int:
        worker = self.ground.workers.get(contender)
        return resident_bytes(worker.pid) if worker else 0

    async def _history(self, contender: str, number: str) -> tuple[int, int]:
        if contender not in self.ground.workers:
            return 0, 0
        handle = self.ground.client.get_workflow_handle(number)
        info = (await handle.describe()).raw_description.workflow_execution_info
        return info.history_length, info.history_size_bytes
