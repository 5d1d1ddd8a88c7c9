"""r1k-build beside the loops that one would write by hand, on one host, interleaved.

  heavy-tail  latency lognormal, median 0.5 s, p99 5 s: seconds from the first request to the last answer and the folder
  overhead    latency 20 ms: the same, and CPU per request
  memory      peak resident memory at a tenth of a source and at all of it
  resume      seconds from the start of `--resume` to its first request, on a journal of 20 answers a row of --rows
  cap         a host that takes 64, then 16, then 128 requests at once: seconds against the ideal, refusals, rows lost

Each client is a process of its own and asks two requests a row, --concurrency in flight: `bare` is aiohttp alone,
`openai` and `openai-aiohttp` are AsyncOpenAI over its two transports (loops.py). r1k-build journals and parses, and writes
its folder, without a tokenizer. CPU is user and system time of all threads and child processes, from the first request
on: what is spent before, on imports and on reading the source, is not in it. Absolute figures depend on the machine and
on what else it does; a ratio is taken within each round, and its median over the rounds is what counts. On a virtual machine
processor time that others take (reported with each part) falls upon whoever needs most, and makes ratios worse.
"""

import argparse
import http.client
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from answered import write_answered
from corpus import Corpus
from host import Host, Settings
from measure import Run, run

from r1k_builder.config import BuildConfig, TeacherConfig

HERE = Path(__file__).parent
EXAMPLES = """\
examples:
  python benchmarks/builder.py                                   all of it, 5 rounds (an hour)
  python benchmarks/builder.py --quick                           all of it at a tenth of the size: does it work
  python benchmarks/builder.py --only overhead --json out.json   one part, with every round's figures
  python benchmarks/builder.py --base-url http://127.0.0.1:8900/v1    on another simulator with host.py's /_admin paths
"""

FULL: dict[str, Any] = {"content_bytes": 6000, "reasoning_bytes": 20000}
SMALL: dict[str, Any] = {"content_bytes": 600, "reasoning_bytes": 2000}
"""Answers for the memory of many rows: what grows with the number of rows does not depend on their size."""

HEAVY_TAIL = {"latency": "lognormal", "latency_s": 0.5, "p99_s": 5.0, **FULL}
"""Cut at a hundredth of the rows in seconds: no effect at 5,000 rows, and no one request longer than a small run."""
OVERHEAD = {"latency": "constant", "latency_s": 0.02, **FULL}
AT_ONCE = {"latency": "constant", "latency_s": 0.0, **SMALL}

CAPS = (64, 16, 128)
CAP_LATENCY = 0.5
CAP_SECONDS = 8.0
"""How long each cap but the last one stands, at 5,000 rows."""
CAP_ROWS = 0.4
"""Of --rows: so that about half of the requests are left for the last cap."""

MB = 1e6

# -- what there is to run ------------------------------------------------------------------------------------------


class Lap(NamedTuple):
    """One client's run. Seconds count from its first request."""

    requests: int
    until_first: float
    """Seconds from the process's start to the first request."""
    asked: float
    """Until the last answer was there; for r1k-build, on disk."""
    asked_cpu: float
    """Seconds of CPU in that time."""
    folder: float | None
    """Until the folder was finished."""
    folder_cpu: float
    peak: int
    """Bytes resident, at most, in the life of the process."""
    asked_peak: int
    refused: int = 0
    lost: int = 0
    """Rows without an end."""


@dataclass(frozen=True)
class Bench:
    """The host, the work folder and the sizes that every part shares."""

    url: str
    work: Path
    rows: int
    runs: int
    concurrency: int

    def admin(self, action: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask the host's /_admin. Raises SystemExit where it has none, or refuses a setting."""
        place = urlsplit(self.url)
        with closing(http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)) as connection:
            method, body = ("GET", None) if settings is None else ("POST", json.dumps(settings))
            connection.request(method, f"/_admin/{action}", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            said = response.read()
        if response.status != 200:
            raise SystemExit(f"{self.url}: /_admin/{action} answered {response.status}: {said[:200].decode(errors='replace')}")
        found: dict[str, Any] = json.loads(said)
        return found

    def source(self, rows: int, size: Mapping[str, int]) -> Path:
        """A JSONL of s1K-1.1's shape with reasoning, so that only the reverse direction is asked of the host."""
        path = self.work / f"source-{rows}-{size['reasoning_bytes']}.jsonl"
        if not path.exists():
            corpus = Corpus(seed=2)
            with path.open("w") as file:
                for row in range(rows):
                    file.write(json.dumps(_source_row(corpus, row, size)) + "\n")
        return path

    def loop(self, client: str, source: Path) -> Lap:
        """One of loops.py's clients over `source`."""
        command: list[str | Path] = [
            HERE / "loops.py",
            client,
            source,
            "--base-url",
            self.url,
            "--concurrency",
            str(self.concurrency),
        ]
        done = run(command)
        said = json.loads(done.output.splitlines()[-1])
        first, last = said["first"], said["last"]
        cpu = done.cpu(last) - done.cpu(first)
        return Lap(said["answers"], first - done.began, last - first, cpu, None, cpu, done.peak(), done.peak(last))

    def build(self, source: Path) -> Lap:
        """r1k-build over `source`, into a folder that is removed again."""
        output = self.work / "r1k"
        command: list[str | Path] = [
            "-m", "r1k_builder", "--source", source, "--output", output, "--base-url", self.url, "--model", "benchmark",
            "--concurrency", str(self.concurrency), "--tokenizer", "none", "--benchmarks", "none",
        ]  # fmt: skip
        lap = _read_build(run(command, statuses=(0, 3)), output / ".build")
        shutil.rmtree(output)
        return lap

    def config(self, source: Path) -> BuildConfig:
        """The settings that `build` names on the command line."""
        teacher = TeacherConfig(base_url=self.url, model="benchmark")
        return BuildConfig(source=str(source), teacher=teacher, concurrency=self.concurrency, tokenizer="none")


def _source_row(corpus: Corpus, row: int, size: Mapping[str, int]) -> dict[str, str]:
    key = row * 2654435761
    return {
        "question": f"Problem {row}. {corpus.text(key, 250)}",
        "solution": f"{corpus.text(key >> 3, min(500, size['content_bytes']))} It is {row}.",
        "deepseek_thinking_trajectory": f"{corpus.text(key >> 5, size['reasoning_bytes'])} So it is {row}.",
        "deepseek_attempt": f"{corpus.text(key >> 7, size['content_bytes'])} $\\boxed{{{row}}}$",
        "cot_type": ("math", "science", "crossword")[row % 3],
    }


def _read_build(done: Run, state: Path) -> Lap:
    manifest = json.loads((state / "manifest.json").read_text())
    finished = (state / "manifest.json").stat().st_mtime
    first, last, requests = _span(state / "journal.sqlite")
    begin = done.cpu(first)
    return Lap(
        requests=requests,
        until_first=first - done.began,
        asked=last - first,
        asked_cpu=done.cpu(last) - begin,
        folder=finished - first,
        folder_cpu=done.cpu() - begin,
        peak=done.peak(),
        asked_peak=done.peak(last),
        refused=manifest["responses"].get("429", 0),
        lost=manifest["rows"]["failed"],
    )


def _span(journal: Path) -> tuple[float, float, int]:
    """Epoch seconds of the last run's first request and last answer, and the number of requests; zeros before any."""
    query = (
        "SELECT coalesce(min(sent), 0), coalesce(max(received), 0), count(*) FROM attempt LEFT JOIN reply"
        " ON reply.attempt = attempt.id WHERE run = (SELECT max(id) FROM run)"
    )
    with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as db:
        first, last, requests = db.execute(query).fetchone()
    return first, last, requests


# -- the parts -----------------------------------------------------------------------------------------------------

LOOPS = {"bare": "bare aiohttp loop", "openai": "AsyncOpenAI loop", "openai-aiohttp": "AsyncOpenAI loop, aiohttp"}


def race(bench: Bench, settings: Mapping[str, Any]) -> dict[str, list[Lap]]:
    """Every client in turn, round after round: its laps by its name."""
    source = bench.source(bench.rows, FULL)
    laps: dict[str, list[Lap]] = {client: [] for client in (*LOOPS, "r1k-build")}
    for number in range(bench.runs):
        for client, done in laps.items():
            bench.admin("reset", settings)
            done.append(bench.build(source) if client == "r1k-build" else bench.loop(client, source))
            _say(f"  round {number + 1}, {client}: {done[-1].asked:.1f} s")
    return laps


class Line(NamedTuple):
    """A client in a table, with a value for each round."""

    name: str
    seconds: list[float]
    cpu: list[float]
    """Milliseconds per request."""


def _lines(laps: Mapping[str, list[Lap]]) -> dict[str, Line]:
    lines = {
        client: Line(name, [lap.asked for lap in laps[client]], [1e3 * lap.asked_cpu / lap.requests for lap in laps[client]])
        for client, name in {**LOOPS, "r1k-build": "r1k-build, to the last answer"}.items()
    }
    whole = laps["r1k-build"]
    lines["folder"] = Line(
        "r1k-build, to the folder",
        [lap.folder or 0.0 for lap in whole],
        [1e3 * lap.folder_cpu / lap.requests for lap in whole],
    )
    return lines


def _show_race(title: str, laps: Mapping[str, list[Lap]]) -> dict[str, Line]:
    lines = _lines(laps)
    bare, sdk = lines["bare"], lines["openai-aiohttp"]
    _say(f"\n{title}")
    _say(f"  {'':30}{'seconds: min, median, max':>27}{'x bare':>8}{'x SDK':>8}{'CPU ms/request':>16}{'x bare':>8}{'x SDK':>8}")
    for line in lines.values():
        spread = f"{min(line.seconds):9.2f}{median(line.seconds):9.2f}{max(line.seconds):9.2f}"
        time_ratios = f"{_ratio(line.seconds, bare.seconds):8.2f}{_ratio(line.seconds, sdk.seconds):8.2f}"
        cpu_ratios = f"{_ratio(line.cpu, bare.cpu):8.2f}{_ratio(line.cpu, sdk.cpu):8.2f}"
        _say(f"  {line.name:30}{spread}{time_ratios}{median(line.cpu):16.2f}{cpu_ratios}")
    _say("  (x SDK: against the AsyncOpenAI loop over aiohttp)")
    start, lost = median(lap.until_first for lap in laps["r1k-build"]), sum(lap.lost for lap in laps["r1k-build"])
    _say(f"  r1k-build: {start:.1f} s from its start to its first request; {lost} rows lost")
    return lines


def heavy_tail(bench: Bench) -> dict[str, Any]:
    laps = race(bench, {**HEAVY_TAIL, "max_s": bench.rows / 100})
    title = f"heavy tail: {bench.rows:,} rows, {bench.concurrency} in flight, latency lognormal (median 0.5 s, p99 5 s)"
    lines = _show_race(title, laps)
    _goal("first request to finished folder / bare loop", _ratio(lines["folder"].seconds, lines["bare"].seconds), 1.10)
    return _as_json(laps)


def overhead(bench: Bench) -> dict[str, Any]:
    laps = race(bench, OVERHEAD)
    lines = _show_race(f"overhead: {bench.rows:,} rows, {bench.concurrency} in flight, latency 20 ms", laps)
    line, sdk = lines["r1k-build"], lines["openai-aiohttp"]  # the folder's checks and files have no counterpart in a loop
    _goal(f"{line.name}, time / SDK loop", _ratio(line.seconds, sdk.seconds), 1.5)
    _goal(f"{line.name}, CPU / SDK loop", _ratio(line.cpu, sdk.cpu), 1.5)
    return _as_json(laps)


def memory(bench: Bench) -> dict[str, Any]:
    laps: dict[str, list[Lap]] = {}
    for rows in (bench.rows, 10 * bench.rows):
        bench.admin("reset", AT_ONCE)
        laps[f"{rows}"] = [bench.build(bench.source(rows, SMALL))]
        _say(f"  {rows:,} rows: {laps[f'{rows}'][0].folder:.0f} s")
    _say(f"\nmemory: peak resident MB of r1k-build, {bench.concurrency} in flight, answers of {sum(SMALL.values()):,} bytes")
    for name, (lap,) in laps.items():
        _say(f"  {int(name):8,} rows: {lap.peak / MB:6.0f}   (while asking {lap.asked_peak / MB:.0f})")
    (few,), (many,) = laps.values()
    _goal("growth over ten times the rows, MB", (many.peak - few.peak) / MB, 25)
    return _as_json(laps)


def resume(bench: Bench) -> dict[str, Any]:
    """Twice: with the journal out of the page cache, as after a night, and with it in the cache."""
    source, output = bench.source(10 * bench.rows, FULL), bench.work / "r1k"
    host = Host()
    host.settings = Settings(**FULL)
    answers = write_answered(output, bench.config(source), host, owed=10)
    journal = output / ".build" / "journal.sqlite"
    size = journal.stat().st_size
    seconds = {}
    for state in ("cold", "warm"):
        if state == "cold":
            _forget(source)
            _forget(journal)
        bench.admin("reset", HEAVY_TAIL)
        command: list[str | Path] = ["-m", "r1k_builder", "--resume", "--output", output]
        done = run(command, stop=lambda: bench.admin("stats")["most_in_flight"] > 0)
        seconds[state] = _span(journal)[0] - done.began
    _say(f"\nresume: {answers:,} answers, a journal of {size / 1e9:.2f} GB, a source of {source.stat().st_size / 1e9:.2f} GB")
    _say(f"  seconds to the first request: {seconds['cold']:.2f} (file cache cold), {seconds['warm']:.2f} (warm)")
    shutil.rmtree(output)
    return {"answers": answers, "journal_bytes": size, "seconds": seconds}


def _forget(path: Path) -> None:
    """Drop a file from the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cap(bench: Bench) -> dict[str, Any]:
    rows, stand = int(CAP_ROWS * bench.rows), CAP_SECONDS * bench.rows / 5000
    source, laps, ratios = bench.source(rows, FULL), [], []
    for _ in range(bench.runs):
        bench.admin("reset", {"latency": "constant", "latency_s": CAP_LATENCY, "cap": CAPS[0], **FULL})
        with _moving_cap(bench, stand):
            laps.append(bench.build(source))
        ratios.append(laps[-1].asked / ideal_seconds(2 * rows, stand))
        _say(f"  {laps[-1].asked:.1f} s, ideal {ideal_seconds(2 * rows, stand):.1f} s")
    _say(f"\ncap: {' -> '.join(map(str, CAPS))} in flight, moved every {stand:.1f} s; {rows:,} rows, latency {CAP_LATENCY} s")
    refused, lost = median(lap.refused for lap in laps), sum(lap.lost for lap in laps)
    spread = f"{min(ratios):.2f}, {median(ratios):.2f}, {max(ratios):.2f}"
    _say(
        f"  time / ideal (min, median, max): {spread}; {refused:,.0f} answers of 429 to {2 * rows:,} requests; {lost} rows lost"
    )
    _goal("time / ideal", median(ratios), 1.3)
    return _as_json({"r1k-build": laps})


def ideal_seconds(requests: float, stand: float) -> float:
    """When a host of CAPS, each standing `stand` seconds and the last for good, has answered `requests`."""
    seconds = 0.0
    for most in CAPS[:-1]:
        rate = most / CAP_LATENCY
        if requests <= rate * stand:
            return seconds + requests / rate
        requests -= rate * stand
        seconds += stand
    return seconds + requests * CAP_LATENCY / CAPS[-1]


@contextmanager
def _moving_cap(bench: Bench, stand: float) -> Iterator[None]:
    """Beside what runs inside, move the host's cap: `stand` seconds after the first request, and again after as many."""
    left = threading.Event()

    def move() -> None:
        while not bench.admin("stats")["most_in_flight"]:
            if left.wait(0.02):
                return
        for most in CAPS[1:]:
            if left.wait(stand):
                return
            bench.admin("config", {"cap": most})

    mover = threading.Thread(target=move)
    mover.start()
    try:
        yield
    finally:
        left.set()
        mover.join()


# -- what is said of it --------------------------------------------------------------------------------------------


def _ratio(values: Sequence[float], to: Sequence[float]) -> float:
    """Median over the rounds of the ratio within each."""
    return median(value / other for value, other in zip(values, to, strict=True))


def _goal(what: str, found: float, most: float) -> None:
    if found > most:
        MISSED.append(what)
    _say(f"  {'met   ' if found <= most else 'MISSED'}  {what}: {found:.2f} (goal: at most {most:g})")


MISSED: list[str] = []
"""Goals that were missed: the exit status says so."""


def _as_json(laps: Mapping[str, list[Lap]]) -> dict[str, Any]:
    return {client: [lap._asdict() for lap in done] for client, done in laps.items()}


def _machine() -> str:
    where = f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    versions = ", ".join(f"{name} {version(name)}" for name in ("r1k", "openai", "aiohttp", "pyarrow"))
    return f"{where}; Python {platform.python_version()}, {versions}"


def _processor_time() -> list[int]:
    """Ticks of all processors since Linux started, by what they went to (proc_stat(5)); the last are other machines'."""
    return list(map(int, Path("/proc/stat").read_text().split()[1:9]))


def _say(text: str) -> None:
    print(text, flush=True)


# -- the command ---------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "heavy-tail": heavy_tail,
    "overhead": overhead,
    "memory": memory,
    "resume": resume,
    "cap": cap,
}


@contextmanager
def own_host() -> Iterator[str]:
    """host.py on a free port, in a process of its own; its URL."""
    process = subprocess.Popen([sys.executable, HERE / "host.py", "--port", "0"], stdout=subprocess.PIPE, text=True)
    with process:
        try:
            yield process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.terminate()


def parts(text: str) -> list[str]:
    """A list of parts, as an option's value."""
    names = text.split(",")
    if unknown := set(names) - set(PARTS):
        raise argparse.ArgumentTypeError(f"no such part: {', '.join(sorted(unknown))} (there are {', '.join(PARTS)})")
    return names


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", metavar="URL", help="a simulator to use instead of an own one on a free port")
    parser.add_argument("--rows", type=int, metavar="N", help="size of everything (default: 5000; memory and resume: 10 N)")
    parser.add_argument("--runs", type=int, metavar="N", help="rounds of heavy-tail, overhead and cap (default: 5)")
    parser.add_argument("--concurrency", type=int, default=256, metavar="N", help="requests in flight (default: %(default)s)")
    parser.add_argument("--only", type=parts, default=list(PARTS), metavar="PARTS", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="500 rows, one round: to see that it works, not how fast it is")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every round's figures")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where to work, on the disk to be measured (default: $TMPDIR)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = read_options(arguments)
    rows, runs = options.rows or (500 if options.quick else 5000), options.runs or (1 if options.quick else 5)
    _say(_machine())
    results: dict[str, Any] = {"machine": _machine(), "rows": rows, "runs": runs, "concurrency": options.concurrency}
    with (
        tempfile.TemporaryDirectory(prefix="r1k-benchmark-", dir=options.work) as work,
        own_host() if options.base_url is None else _given(options.base_url) as url,
    ):
        bench = Bench(url, Path(work), rows, runs, options.concurrency)
        for name in options.only:
            before = _processor_time()
            results[name] = PARTS[name](bench)
            ticks = [now - then for now, then in zip(_processor_time(), before, strict=True)]
            results[name]["stolen"] = ticks[-1] / max(sum(ticks), 1)
            _say(f"  taken by other machines on this host meanwhile: {results[name]['stolen']:.1%} of the processors' time")
            if options.json:
                options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 1 if MISSED else 0


@contextmanager
def _given(url: str) -> Iterator[str]:
    yield url


if __name__ == "__main__":
    sys.exit(main())
