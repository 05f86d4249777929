"""Ports, temporary directories and names that a run has to itself."""

import asyncio
import os
import re
import socket
import stat
from pathlib import Path

import pytest

from adapters.runs.resources import BLOCK, RunResources
from pipeline.errors import RefusedInput, TransientError
from tests.fixtures_runs import PORTS, Bench, attach, until
from tests.fixtures_workspaces import exists
from tests.ports import is_free, own_ports

SHOW = 'echo "$AGOG_PORT_BASE $AGOG_PORT_COUNT $TMPDIR"; touch "$TMPDIR/mine"'
WAIT = f"{SHOW}; until test -e $AGOG_RUN_DIR/go; do sleep 0.02; done"


def few_ports(blocks: int) -> str:
    """A range of that many blocks that nobody else is after."""
    ports = own_ports(blocks * BLOCK)
    return f"{ports[0]}-{ports[-1]}"


def first_port(resources: RunResources, key: str) -> int:
    return int(resources.take(key)["AGOG_PORT_BASE"])


def test_blocks_are_apart_whatever_state_directory_and_free_again_afterwards(
    tmp_path: Path,
) -> None:
    ports = few_ports(2)
    ours, theirs = RunResources(tmp_path / "ours", ports), RunResources(tmp_path / "theirs", ports)

    first, second = first_port(ours, "REQ-1/wf/A/1"), first_port(theirs, "REQ-1/wf/A/1")
    assert abs(first - second) == BLOCK
    assert first_port(ours, "REQ-1/wf/A/1") == first
    with pytest.raises(TransientError, match=f"No {BLOCK} ports in a row are free"):
        ours.take("REQ-1/wf/B/1")
    theirs.release("REQ-1/wf/A/1")

    assert first_port(ours, "REQ-1/wf/B/1") == second
    for key in ("REQ-1/wf/A/1", "REQ-1/wf/B/1"):
        ours.release(key)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1"])
def test_a_block_in_which_anybody_listens_is_left_alone(tmp_path: Path, address: str) -> None:
    ports = few_ports(2)
    resources, key = RunResources(tmp_path, ports), "REQ-1/wf/A/1"
    taken = first_port(resources, key)
    resources.release(key)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as server:
        try:
            server.bind((address, taken + 7))
        except OSError as error:
            pytest.skip(f"this host has no {address}: {error}")
        server.listen()

        assert first_port(resources, key) != taken
        resources.release(key)
    assert first_port(resources, key) == taken
    resources.release(key)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("20000", "no range"),
        ("80-2000", "no range"),
        ("30000-20000", "no range"),
        ("20000-70000", "no range"),
        ("20000-20010", f"holds no {BLOCK} ports"),
    ],
)
def test_a_range_that_cannot_serve_is_refused_by_the_name_of_its_setting(
    tmp_path: Path, text: str, why: str
) -> None:
    with pytest.raises(RefusedInput, match=f"AGOG_RUN_PORTS: .*{why}"):
        RunResources(tmp_path, text)


def test_names_are_apart_and_such_as_compose_and_a_database_take(tmp_path: Path) -> None:
    resources = RunResources(tmp_path, PORTS)
    long = "Backend Implementation of Everything and More, Übung"
    keys = [f"REQ-101/{run}/{name}/1" for run in ("wf-1", "wf-2") for name in (long, "QA", "Ü")]
    given = [resources.take(key) for key in keys]

    for name in ("COMPOSE_PROJECT_NAME", "AGOG_DATABASE", "TMPDIR", "AGOG_PORT_BASE"):
        assert len({each[name] for each in given}) == len(keys)
    for each in given:
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]{1,62}", each["COMPOSE_PROJECT_NAME"])
        assert re.fullmatch(r"[a-z][a-z0-9_]{1,62}", each["AGOG_DATABASE"])
    for key in keys:
        resources.release(key)


async def test_a_run_holds_its_ports_until_its_end_and_its_directory_is_removed(
    runs: Bench,
) -> None:
    runs.ports = few_ports(1)
    runs.shell(WAIT)
    host, order = runs.host(), runs.order()
    attached = asyncio.create_task(attach(host, order))
    output = runs.directory(order).file("stdout")
    await until(lambda: output.exists() and output.read_text().endswith("\n"))
    base, count, place = output.read_text().split()
    await until(lambda: exists(f"{place}/mine"))
    assert stat.S_IMODE(os.lstat(place).st_mode) == 0o700
    assert not is_free(int(base) + int(count))

    await host.suspend("REQ-1/wf-1")
    again = runs.host()
    async with again.slot(order.slot) as has_slot:  # as a worker that comes back does
        assert has_slot
    assert exists(place)
    await host.resume("REQ-1/wf-1")
    runs.let_go(order)
    await attached

    assert not exists(place)
    await until(lambda: is_free(int(base) + int(count)))  # the supervisor ends after its result


async def test_a_worker_that_comes_back_leaves_a_living_runs_directory_and_removes_the_others(
    runs: Bench,
) -> None:
    runs.shell(WAIT)
    order = runs.order()
    attached = asyncio.create_task(attach(runs.host(), order))
    output = runs.directory(order).file("stdout")
    await until(lambda: output.exists() and output.read_text().endswith("\n"))
    living = output.read_text().split()[2]
    attached.cancel()
    await asyncio.gather(attached, return_exceptions=True)
    killed = RunResources(runs.home, PORTS)
    left = killed.take("REQ-1/wf-1/build backend/1")["TMPDIR"]
    killed.hand_over("REQ-1/wf-1/build backend/1")

    again = runs.host()
    again.remove_leftovers()

    assert exists(living)
    assert not exists(left)
    await again.end(order.run_id)
    assert not exists(living)
