"""The care of a real host, put together of its parts."""

from collections.abc import Callable, Sequence
from pathlib import Path

from adapters.git import GitWorkspaces
from adapters.host_care.care import HostCare
from adapters.host_care.collector import LeftoverCollector
from adapters.host_care.deadlines import DeadlineCare
from adapters.host_care.disk import DiskCare
from adapters.host_care.load import HostLoad, LoadCare, measure
from adapters.host_care.orphaned_runs import OrphanedProcesses, OrphanedRuns
from adapters.host_care.orphaned_trees import EndedClones
from adapters.host_care.orphans import OrphanCare
from adapters.host_care.parts import Extend, Requirements, Slots
from adapters.readiness import free_bytes
from pipeline.ports import AgentRuns


def host_care(
    home: Path,
    host: str,
    *,
    project_root: Path | None,
    filters: Sequence[str] = (),
    min_free_bytes: int,
    requirements: Requirements,
    runs: AgentRuns,
    slots: Slots,
    extend: Extend,
    free: Callable[[Path], int] = free_bytes,
    measuring: Callable[[], HostLoad] = measure,
) -> HostCare:
    """The caretaker of the host with that state directory and name.

    `filters` are those that git may run; `requirements` says what has ended, `runs` ends agents,
    `slots` are the host's, and `extend` moves a deadline. `free` and `measuring` measure
    the disk and the load.
    """
    workspaces = GitWorkspaces(project_root, home, filters) if project_root else None
    collector = LeftoverCollector(home, requirements, workspaces)
    clones = (EndedClones(home, requirements, workspaces),) if workspaces else ()
    return HostCare(
        LoadCare(host, slots, measuring),
        DiskCare(home, host, collector, min_free_bytes, free),
        DeadlineCare(home, extend),
        OrphanCare(OrphanedRuns(home, requirements, runs)),
        OrphanCare(OrphanedProcesses(home, requirements)),
        *map(OrphanCare, clones),
    )
