"""What survives a kill, a torn or damaged file, a full disk, a signal, a change of settings: every answer paid for."""

import errno
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.command import Build, Ended, Running, journal, lost, paid, parquet, rows, run_here, start, wait_until
from tests.fake_host import FakeHost, random_faults, serve

Questions = Callable[..., Path]


@pytest.fixture
def build(host: FakeHost, questions: Questions, tmp_path: Path) -> Callable[..., Build]:
    """Makes a build of n rows; another one of the same rows, in a folder of another name, is its undisturbed twin."""
    return lambda count, name="r1k": Build(host, questions(count), tmp_path / name)


def finish(it: Build) -> Ended:
    """Resume until the end, at a host that has become well and fast."""
    it.host.latency, it.host.script = 0.0, FakeHost.script
    ended = it.resume_here()
    assert ended.status == 0, ended
    return ended


def undisturbed(it: Build) -> dict[str, bytes]:
    """The dataset of the same rows from the same host, built in one go. `it` must have ended."""
    twin = Build(it.host, it.source, it.folder.with_name("undisturbed"))
    ended = twin.here()
    assert ended.status == 0, ended
    return parquet(twin.folder)


# -- kill -9 -------------------------------------------------------------------------------------------------------


def kill(process: Running, ready: Callable[[], bool], delay: float) -> Ended:
    """Kill a run some time after it is `ready`."""
    wait_until(lambda: ready() or not process.running)
    time.sleep(delay)
    process.signal(signal.SIGKILL)
    ended = process.end()
    assert ended.status == -signal.SIGKILL, ended
    return ended


def test_twenty_kills_in_a_row_lose_nothing_and_ask_nothing_twice(build: Callable[..., Build]) -> None:
    it, draw = build(150), random.Random(20)
    host = it.host
    host.latency, host.script = 0.15, random_faults(0.02, ("429", "500", "drop", "cut"))
    in_flight = 0
    for number in range(20):
        seen, before = len(host.log), paid(it.folder) if number else Counter[str]()
        process = it.resume() if number else it.start("--concurrency", "6")
        ended = kill(process, lambda seen=seen: len(host.log) > seen, draw.uniform(0, 0.4))
        if in_flight:
            assert f"{in_flight} requests were in flight when the last run ended" in ended.err, ended
        assert not before.keys() & {exchange.prompt for exchange in host.log[seen:]}, "a committed answer was asked again"
        in_flight = lost(it.folder).total()
    before, seen = paid(it.folder), len(host.log)
    assert sum(before.values()) > 20
    ended = finish(it)
    assert rows(ended) == {"read": 150, "accepted": 150, "rejected": 0, "owed": 0}
    assert not before.keys() & {exchange.prompt for exchange in host.log[seen:]}
    again = {prompt: count - 1 for prompt, count in paid(it.folder).items() if count > 1}
    assert not again, "the journal holds two answers to one request"
    assert parquet(it.folder) == undisturbed(it)
