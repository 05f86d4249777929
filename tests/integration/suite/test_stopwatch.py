"""Times that the product promises are measured without those that the machine takes."""

import signal
import subprocess
import sys
import time

from tests.eventually import Stopwatch
from tests.leftovers import ROOT

MEASURES = """
import sys, time
from tests.eventually import Stopwatch
with Stopwatch() as watch:
    print("begun", flush=True)
    sys.stdin.readline()
print(watch.seconds)
"""
STOPPED_SECONDS = 1.5


def test_a_wait_counts() -> None:
    began = time.monotonic()
    with Stopwatch() as watch:
        time.sleep(0.5)

    assert 0 < watch.seconds <= time.monotonic() - began


def test_time_in_which_a_process_is_not_let_run_does_not_count() -> None:
    argv = [sys.executable, "-c", MEASURES]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        began = time.monotonic()
        process.send_signal(signal.SIGSTOP)
        time.sleep(STOPPED_SECONDS)
        process.send_signal(signal.SIGCONT)
        process.stdin.write("\n")
        process.stdin.flush()
        seconds = float(process.stdout.readline())
        taken = time.monotonic() - began

    assert taken >= STOPPED_SECONDS
    assert seconds < taken - STOPPED_SECONDS / 2
