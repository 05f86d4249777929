"""Processor time and memory of a process and everything below it."""

import psutil


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
