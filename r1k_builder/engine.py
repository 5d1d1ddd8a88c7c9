"""The shards of one build as actors of a Ray cluster (extra `ray`): started, started again, limited and shown as one.

    driver     this command: starts the rest, starts again what is lost, shows the progress, writes the dataset
    limiter    an actor: one adaptive limit per endpoint and one budget for all shards; holds nothing that they do not know
    shard i/n  an actor: an ordinary build of a share of the source, with its own journal in the output folder

The output folder must be the same on every node. The API key comes from the environment of each node (of `ray start`), and
is in nothing that Ray is told. r1k must be installed on every node, in the same version.
"""

import asyncio
import contextlib
import math
import os
import re
import signal
import socket
import sqlite3
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping, Set
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from r1k_builder import __version__, errors
from r1k_builder.account import dollars, picodollars
from r1k_builder.build import ask, open_build
from r1k_builder.config import BuildConfig
from r1k_builder.database import local_error
from r1k_builder.errors import BudgetReached, Interrupted, LocalError, R1kError, UsageError
from r1k_builder.folder import BuildFolder, local_errors
from r1k_builder.journal import Journal
from r1k_builder.journals import Journals
from r1k_builder.limiter import Lease, Limiter, Money, Report, Use
from r1k_builder.pipeline import Pipeline
from r1k_builder.progress import Snapshot, done_rows, take_snapshot
from r1k_builder.shards import Shard

if TYPE_CHECKING:
    from ray.actor import ActorHandle

NAMESPACE = "r1k"

EVERY = 0.1
"""Seconds between two reports of a shard."""

PATIENCE = 3.0
"""Seconds that a shard waits for the limiter's answer; it goes on with what it holds, and asks again."""

SHOWN_EVERY = 0.5
"""Seconds between two looks of the driver at the limiter."""

SNAPSHOT_EVERY = 1.0
"""Seconds between two counts of a shard's rows."""

LOCKED = 60.0
"""Seconds that a shard waits for the one before it to let go of its journal: a process whose node has lost its raylet."""

DRAINED = 30.0
"""Seconds, beside `--grace`, until shards that were told to stop are ended; one may never have found a node."""

LOSSES = 5
"""So often in a row a shard may be lost without having ended a row in between."""

SHARD_CPUS = 0.25
"""What a shard is scheduled by: it waits for the host nearly all of its time."""

CONNECT = 10.0
"""Seconds until the head of a cluster must have taken a connection."""

STORE = 80 * 2**20
"""Bytes of Ray's object store, its least, where this command starts Ray itself: nothing large is put into it."""


class Errand(NamedTuple):
    """What an actor is told of its shard."""

    shard: Shard
    config: str
    """The BuildConfig as JSON. It names the key's variable, never the key."""
    folder: str
    directory: str
    """Where the command was typed: relative paths of the settings start there."""
    limiter: str
    """Its name; the file `.build/engine` holds it, too, by which an actor knows the folder."""
    accept_drift: bool
    version: str = __version__


class Ended(NamedTuple):
    """How a shard's run ended."""

    shard: Shard
    spent: int
    """Picodollars, at most."""
    lost: int
    """Requests that the run before had left in flight."""
    error: str | None = None
    """The name of the R1kError that stopped it."""
    message: str = ""
    status: int = 0


# -- the limiter ---------------------------------------------------------------------------------------------------


class LimiterActor:
    """The limiter, and what each shard has last said of itself."""

    def __init__(self, most: int, shards: int, cap: int | None) -> None:
        self._limiter = Limiter(most, shards, cap)
        self._snapshots: dict[str, Snapshot] = {}

    def report(self, report: Report, snapshot: Snapshot | None) -> Lease:
        if snapshot is not None:
            self._snapshots[report.shard] = snapshot
        return self._limiter.report(report)

    def leave(self, shard: str, money: Money | None) -> None:
        self._limiter.leave(shard, money)

    def status(self) -> Mapping[str, Snapshot]:
        return self._snapshots

    def process(self) -> int:
        return os.getpid()


# -- a shard -------------------------------------------------------------------------------------------------------


class ShardActor:
    """One shard's build."""

    def __init__(self, errand: Errand) -> None:
        self._errand = errand
        self._pipeline: Pipeline | None = None
        self._stop: R1kError | None = None
        self._limiter: ActorHandle | None = None
        self._limits: dict[str, int] = {}
        self._is_tight = False

    def process(self) -> str:
        return f"process {os.getpid()} on {socket.gethostname()}"

    async def stop(self, message: str, status: int) -> None:
        """Send nothing more; `run` returns when what is in flight is recorded."""
        self._stop = Interrupted(message, status)
        if self._pipeline is not None and self._pipeline.account is not None:
            self._pipeline.stop(self._stop)

    async def run(self) -> Ended:
        """Build the shard, from its journal on. Only a bug is raised."""
        shard, spent, lost = self._errand.shard, 0, 0
        try:
            folder = await self._folder()
            config = BuildConfig.model_validate_json(self._errand.config)
            with folder.building():
                opened = open_build(folder, config, accept_drift=self._errand.accept_drift, note=folder.log)
                lost = opened.lost.attempts
                try:
                    await self._ask(folder, opened.journal, lambda: ask(opened, config, self._keep, leased=True))
                finally:
                    spent = opened.journal.spent_at_most()
                    await self._leave(Money(spent, 0, spent))
                    opened.close()
        except (R1kError, sqlite3.Error) as error:
            known = error if isinstance(error, R1kError) else local_error(error, Path("the journal"))
            where = f"shard {shard} on {socket.gethostname()}: "
            return Ended(shard, spent, lost, type(known).__name__, f"{where}{known}", known.exit_code)
        return Ended(shard, spent, lost)

    async def _folder(self) -> BuildFolder:
        """The output folder as this node sees it, when nobody builds the shard any more. Raises UsageError, LocalError."""
        errand = self._errand
        if errand.version != __version__:
            raise UsageError(f"r1k is {__version__} on this node, and {errand.version} where the command was typed")
        with contextlib.suppress(OSError):
            os.chdir(errand.directory)
        folder = BuildFolder(Path(errand.folder), errand.shard)
        try:
            seen = mark_of(folder).read_text()
        except OSError:
            seen = ""
        if seen != errand.limiter:
            raise UsageError(f"this node does not see {folder.path}: put --output on a file system that all nodes share")
        began = time.monotonic()
        while folder.at_work(folder.journal) and time.monotonic() - began < LOCKED:  # noqa: ASYNC110  # no event of ours tells
            await asyncio.sleep(0.2)  # another process holds it: nothing here is told when it lets go
        return folder

    async def _ask(self, folder: BuildFolder, journal: Journal, asking: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Ask for what is owed, and have the journal say how it ended."""
        if self._stop is not None:
            raise self._stop
        try:
            await asking()
        except R1kError as error:
            journal.end_run(type(error).__name__)
            folder.log(f"stopped: {error}")
            raise
        journal.end_run("complete")

    async def _keep(self, pipeline: Pipeline) -> None:
        """Report what the shard holds and take what it is lent, until cancelled."""
        self._pipeline = pipeline
        done_before = done_rows(pipeline)
        counted, snapshot = -SNAPSHOT_EVERY, None
        while True:
            account = pipeline.account
            if self._stop is not None and account is not None and account.stopped_by is None:
                pipeline.stop(self._stop)
            if time.monotonic() - counted >= SNAPSHOT_EVERY:
                snapshot, counted = take_snapshot(pipeline, done_before), time.monotonic()
            await self._renew(pipeline, snapshot)
            snapshot = None
            await asyncio.sleep(EVERY)

    async def _renew(self, pipeline: Pipeline, snapshot: Snapshot | None) -> None:
        """One report, and what comes of it. What the host has refused meanwhile is known better here."""
        account, slots = pipeline.account, pipeline.slots
        ahead = sum(at.limit for at in slots.values())
        money = None if account is None else account.standing(ahead, is_tight=self._is_tight)
        uses = {
            url: Use(at.limit, at.in_flight, pipeline.waiting(url), at.shrunk, self._limits.get(url, 0))
            for url, at in slots.items()
        }
        lease = await self._tell(Report(str(self._errand.shard), uses, money), snapshot)
        if lease is None:
            return
        self._limits, self._is_tight = dict(lease.limits), lease.is_tight
        for url, lent in lease.slots.items():
            slots[url].lend(lent if slots[url].shrunk == uses[url].shrunk else min(lent, slots[url].limit))
        if money is not None and account is not None:
            await account.allow(lease.allowance, is_final=lease.is_final)

    async def _tell(self, report: Report, snapshot: Snapshot | None) -> Lease | None:
        """What the limiter answers; None where it is lost, or slow: then the shard goes on with what it holds."""
        from ray.exceptions import RayError

        try:
            self._limiter = self._limiter or _named(self._errand.limiter)
            async with asyncio.timeout(PATIENCE):
                lease: Lease = await self._limiter.report.remote(report, snapshot)
        except (RayError, ValueError, TimeoutError):
            self._limiter = None
            return None
        return lease

    async def _leave(self, money: Money) -> None:
        """Give everything back."""
        from ray.exceptions import RayError

        with contextlib.suppress(RayError, ValueError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await _named(self._errand.limiter).leave.remote(str(self._errand.shard), money)


def mark_of(folder: BuildFolder) -> Path:
    return folder.state / "engine"


def _named(name: str) -> "ActorHandle[Any]":
    """The limiter as it is now. Raises ValueError where there is none."""
    import ray

    return ray.get_actor(name, namespace=NAMESPACE)


# -- the driver ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def cluster(address: str | None, shards: int) -> Iterator[None]:
    """A connection to the cluster at `address` (`auto`, HOST:PORT), or, where that is None, to one on this machine alone.

    Raises UsageError where Ray is not installed, LocalError where it can't be started or reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a build tells nobody of itself
    try:
        import ray
    except ImportError:
        raise UsageError("--engine ray needs Ray: type  pip install 'r1k[ray]'") from None
    here: dict[str, Any] = {
        "num_cpus": math.ceil(shards * SHARD_CPUS) + 1,
        "include_dashboard": False,
        "object_store_memory": STORE,
        "_node_ip_address": "127.0.0.1",
    }
    _check_address(address)
    try:
        ray.init(
            address=address or "local", namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR",
            **({} if address else here),
        )  # fmt: skip
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        at = f"the Ray cluster at {address} can't be joined" if address else "Ray can't be started here"
        raise LocalError(f"{at} ({str(error).splitlines()[0][:200]}): check --ray-address, and try  ray status") from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_address(address: str | None) -> None:
    """Raise UsageError for what is no address, LocalError where nothing listens: Ray would try for minutes."""
    if address in (None, "auto"):
        return
    host, _, port = (address or "").rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port, re.ASCII) or "/" in host:
        raise UsageError("--ray-address takes 'auto', or HOST:PORT as 'ray start --head' prints it, as in 10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT).close()
    except (OSError, OverflowError) as error:
        said = f"there is no Ray cluster at {address} ({error}): check --ray-address, and type  ray status  on its head"
        raise LocalError(said) from None


@dataclass
class Engine:
    """A build under way on a Ray cluster to which this process is connected."""

    folder: BuildFolder
    config: BuildConfig
    shards: int
    accept_drift: bool
    note: Callable[[str], None]
    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    """What each shard has last said of itself."""
    stopped_by: R1kError | None = None
    """What ends the run: then the other shards record what they have in flight, and end, too."""
    _actors: dict[Shard, Any] = field(default_factory=dict)
    _ended: dict[Shard, Ended] = field(default_factory=dict)
    _name: str = field(default_factory=lambda: f"r1k-limiter-{uuid.uuid4().hex}")
    _limiter: Any = None

    async def run(self) -> None:
        """Have every shard built. Raises the R1kError that stopped it."""
        with local_errors(self.folder.path):
            mark_of(self.folder).write_text(self._name)
        self._catch_signals()
        await self._start_limiter()
        watching = asyncio.create_task(self._watch_limiter())
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(1, self.shards + 1):
                    group.create_task(self._see_through(Shard(number, self.shards)))
        except BaseExceptionGroup as bugs:
            raise bugs.exceptions[0] from None
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            self._release_signals()
        if isinstance(self.stopped_by, BudgetReached):
            spent, most = dollars(self._spent()), self.config.max_cost
            raise BudgetReached(
                f"the next request could pass --max-cost: ${spent:.2f} of ${most:.2f} are spent;"
                " type r1k-build --resume --max-cost MORE"
            )
        if self.stopped_by is not None:
            raise self.stopped_by

    def stop(self, reason: R1kError) -> None:
        """Have every shard send nothing more, and record what it has in flight. A second call gives that up."""
        if self.stopped_by is not None:
            self._kill()
            return
        self.stopped_by = reason
        for actor in self._actors.values():
            actor.stop.remote(str(reason), reason.exit_code)
        asyncio.get_running_loop().call_later(self.config.grace + DRAINED, self._kill)

    def _kill(self) -> None:
        import ray

        for actor in self._actors.values():
            ray.kill(actor)

    async def _see_through(self, shard: Shard) -> None:
        """Run a shard until it has ended, as often as its actor is lost."""
        import ray
        from ray.exceptions import RayActorError

        losses, done = 0, -1
        while self.stopped_by is None:
            actor = self._actors[shard] = self._start(ShardActor, SHARD_CPUS).remote(self._errand(shard))
            try:
                self.folder.log(f"shard {shard} is {await actor.process.remote()}")
                ended: Ended = await actor.run.remote()
            except RayActorError as error:
                if self.stopped_by is not None:
                    return
                ray.kill(actor)  # should it be there after all, and only out of reach
                now = self._done(shard)
                losses, done = (1 if now > done else losses + 1), now
                if losses >= LOSSES:
                    said = str(error).splitlines()[0][:200]
                    self._stop_all(LocalError(f"shard {shard} was lost {losses} times in a row ({said}): see Ray's own logs"))
                    return
                self.note(f"shard {shard} was lost: it is started again and goes on from its journal")
                await asyncio.sleep(min(2.0 ** (losses - 1), 30.0) - 1)
            else:
                self._ended[shard] = ended
                with contextlib.suppress(RayActorError):  # the next one is told when it starts
                    await self._limiter.leave.remote(str(shard), Money(ended.spent, 0, ended.spent))
                if ended.lost:
                    self.note(f"shard {shard}: {ended.lost} requests were in flight when it was lost: they are asked again")
                if ended.error is not None and self.stopped_by is None:
                    self._stop_all(_error(ended))
                return

    def _stop_all(self, reason: R1kError) -> None:
        if self.stopped_by is None:
            self.stop(reason)

    def _done(self, shard: Shard) -> int:
        return self.snapshots[str(shard)].done if str(shard) in self.snapshots else 0

    def _errand(self, shard: Shard) -> Errand:
        config = self.config.model_dump_json()
        directory = str(Path.cwd())
        return Errand(shard, config, str(self.folder.path.absolute()), directory, self._name, self.accept_drift)

    @staticmethod
    def _start(kind: type, cpus: float, **options: Any) -> Any:
        """An actor to be made, anywhere: started again by this driver alone, which knows what for."""
        import ray

        return ray.remote(kind).options(num_cpus=cpus, max_restarts=0, scheduling_strategy="SPREAD", **options)

    # -- the limiter

    async def _start_limiter(self) -> None:
        """A new limiter: it learns from the shards what they hold, and is told here what those have spent that have ended."""
        if self.config.max_cost is None:
            cap = None
        else:
            cap = max(0, picodollars(self.config.max_cost) - self._spent(apart_from=self._own()))
        made = self._start(LimiterActor, 0, name=self._name, namespace=NAMESPACE)
        self._limiter = made.remote(self.config.concurrency, self.shards, cap)
        self.folder.log(f"the limiter is process {await self._limiter.process.remote()}")
        for shard, ended in self._ended.items():
            await self._limiter.leave.remote(str(shard), Money(ended.spent, 0, ended.spent))

    def _own(self) -> set[Path]:
        """The journals of the shards."""
        shards = (Shard(number, self.shards) for number in range(1, self.shards + 1))
        return {BuildFolder(self.folder.path, shard).journal for shard in shards}

    def _spent(self, apart_from: Set[Path] = frozenset()) -> int:
        """Picodollars, at most, by the folder's journals."""
        paths = [path for path in self.folder.journals() if path not in apart_from and path.exists()]
        with closing(Journals.open(paths)) as journals:
            return sum(view.spent_at_most() for view in journals.views)

    async def _watch_limiter(self) -> None:
        """Ask for what the shards have said, and start the limiter again where it is lost, until cancelled."""
        from ray.exceptions import RayActorError

        while True:
            try:
                self.snapshots = {**self.snapshots, **await self._limiter.status.remote()}
            except RayActorError:
                self.note("the limiter was lost: another one is started, and learns from the shards")
                with contextlib.suppress(RayActorError, ValueError):  # its name may not be free yet
                    await self._start_limiter()
            await asyncio.sleep(SHOWN_EVERY)

    # -- signals

    def _catch_signals(self) -> None:
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            reason = Interrupted(
                "interrupted; what was in flight has been waited for: type r1k-build --resume to go on", status
            )
            asyncio.get_running_loop().add_signal_handler(number, self.stop, reason)

    def _release_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)


def _error(ended: Ended) -> R1kError:
    """What stopped a shard, raised here."""
    kind = getattr(errors, ended.error or "", R1kError)
    return Interrupted(ended.message, ended.status) if kind is Interrupted else kind(ended.message)
