"""Runs a process and watches it, with its children, from outside: seconds of CPU at every moment, peak memory. Linux alone."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

EVERY = 0.02
"""Seconds between two looks."""

FAMILY_EVERY = 25
"""Looks between two searches for child processes: each reads all of /proc."""

TICKS = os.sysconf("SC_CLK_TCK")


class Sample(NamedTuple):
    moment: float
    """Epoch seconds."""
    cpu: float
    """Seconds, user and system, of all its threads and processes."""
    peak: int
    """Bytes resident, at most, so far: the sum of each process's own peak, libraries that they share counted each time."""


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


def run(
    command: Sequence[str | Path],
    stop: Callable[[], bool] = lambda: False,
    statuses: Sequence[int] = (0,),
    python: str | Path = sys.executable,
) -> Run:
    """Run a Python command to its end, or kill it, and all that it has started, as soon as `stop` says so.

    Raises SystemExit where it ends with a status that is none of `statuses`.
    """
    with tempfile.TemporaryFile("w+") as output:
        began, samples, stopped = time.time(), [Sample(time.time(), 0.0, 0)], False
        process = subprocess.Popen([python, *command], stdout=output, stderr=subprocess.STDOUT)
        family = [process.pid]
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            if len(samples) % FAMILY_EVERY == 0:
                family = _family(process.pid)
            samples.append(_look(family, samples[-1]))
            if not stopped and (stopped := stop()):
                for member in _family(process.pid):
                    with suppress(ProcessLookupError):
                        os.kill(member, signal.SIGKILL)
            time.sleep(EVERY)
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        samples.append(Sample(time.time(), ended[2].ru_utime + ended[2].ru_stime, samples[-1].peak))
        output.seek(0)
        said = output.read()
    if process.returncode not in statuses and not stopped:
        raise SystemExit(f"{' '.join(map(str, command))} ended with status {process.returncode}:\n{said[-4000:]}")
    return Run(began, samples, said)


def _look(family: Sequence[int], last: Sample) -> Sample:
    """What /proc says of these processes; of one that has just ended, what it said last."""
    cpu, peak = 0.0, 0
    for member in family:
        with suppress(OSError):  # it has ended meanwhile: its parent's account has its CPU
            cpu += sum(map(int, _stat(member)[11:15])) / TICKS  # its own and its past children's, user and system
            found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{member}/status").read_text())
            peak += int(found[1]) * 1024 if found else 0
    return Sample(time.time(), max(cpu, last.cpu), max(peak, last.peak))


def _family(pid: int) -> list[int]:
    """`pid` and all that descend from it."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            children.setdefault(int(_stat(place.name)[1]), []).append(int(place.name))
    family = [pid]
    for member in family:  # which grows on the way
        family += children.get(member, [])
    return family


def _stat(pid: int | str) -> list[str]:
    """The fields of /proc/PID/stat behind the command's name: state, parent, …"""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
