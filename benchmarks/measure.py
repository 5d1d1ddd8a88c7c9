"""Runs a process and watches it from outside: its seconds of CPU at every moment, and its peak memory. Linux alone."""

import os
import re
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

EVERY = 0.02
"""Seconds between two looks."""

TICKS = os.sysconf("SC_CLK_TCK")


class Sample(NamedTuple):
    moment: float
    """Epoch seconds."""
    cpu: float
    """Seconds, user and system, of all threads."""
    peak: int
    """Bytes, the most resident so far."""


@dataclass(frozen=True)
class Run:
    """A process that has ended."""

    began: float
    samples: list[Sample]
    output: str
    """What it printed, errors too."""

    def cpu(self, moment: float = float("inf")) -> float:
        """Seconds of CPU until `moment`, between two samples in proportion."""
        place = bisect_left(self.samples, moment, key=lambda sample: sample.moment)
        if place in {0, len(self.samples)}:
            return self.samples[min(place, len(self.samples) - 1)].cpu
        before, after = self.samples[place - 1], self.samples[place]
        return before.cpu + (after.cpu - before.cpu) * (moment - before.moment) / (after.moment - before.moment)

    def peak(self, moment: float = float("inf")) -> int:
        """Peak of resident memory until `moment`, in bytes."""
        return max((sample.peak for sample in self.samples if sample.moment <= moment), default=0)


def run(command: Sequence[str | Path], stop: Callable[[], bool] = lambda: False, statuses: Sequence[int] = (0,)) -> Run:
    """Run a Python command to its end, or kill it as soon as `stop` says so.

    Raises SystemExit where it ends with a status that is none of `statuses`.
    """
    with tempfile.TemporaryFile("w+") as output:
        began, samples, stopped = time.time(), [Sample(time.time(), 0.0, 0)], False
        process = subprocess.Popen([sys.executable, *command], stdout=output, stderr=subprocess.STDOUT)
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            samples.append(_look(process.pid, samples[-1]))
            if not stopped and (stopped := stop()):
                process.kill()
            time.sleep(EVERY)
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        samples.append(Sample(time.time(), ended[2].ru_utime + ended[2].ru_stime, samples[-1].peak))
        output.seek(0)
        said = output.read()
    if process.returncode not in statuses and not stopped:
        raise SystemExit(f"{' '.join(map(str, command))} ended with status {process.returncode}:\n{said[-4000:]}")
    return Run(began, samples, said)


def _look(pid: int, last: Sample) -> Sample:
    """What /proc says of a process; of one that has just ended, what it said last."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    cpu = (int(stat[11]) + int(stat[12])) / TICKS
    return Sample(time.time(), max(cpu, last.cpu), int(peak[1]) * 1024 if peak else last.peak)
