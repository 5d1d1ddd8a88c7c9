"""r1k-build beside a bare loop and other builders of synthetic data, on one host: a table.

  overhead   latency 20 ms: seconds from the first request to the last answer against the bare loop's, CPU per request
  tail       latency lognormal, median 0.5 s, p99 5 s: the same seconds, against the bare loop's
  faults     5 % of attempts refused (429), failed (500) or cut off: seconds against the bare loop's without any, rows lost
  kill       kill -9 when three quarters are answered, then the same command again: rows in the end, answers asked for twice

Every row is inverted and then solved. Each peer gets a virtual environment of its own under --work (made once; one that can't
be installed is a line that says so), is told of --concurrency requests in flight and is else left as it comes. A peer is
a script `with_NAME.py SOURCE OUTPUT --base-url URL --concurrency N` that takes its prompts from templates.json beside SOURCE,
goes on with what OUTPUT holds, and prints as its last line {"rows": how many rows have both answers}. Seconds and counts
are the host's; single runs: the kind matters, not the digit.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # the benchmarks beside this folder

from builder import FULL, Bench, own_host  # noqa: E402
from measure import Run, run  # noqa: E402

from r1k_builder import invert, solve  # noqa: E402

OVERHEAD = {"latency": "constant", "latency_s": 0.02, **FULL}
TAIL = {"latency": "lognormal", "latency_s": 0.5, "p99_s": 5.0, "max_s": 15.0, **FULL}
FAULTS = {"latency": "constant", "latency_s": 0.2, "p429": 0.05 / 3, "p500": 0.05 / 3, "pdrop": 0.05 / 3, **FULL}
CALM = {"latency": "constant", "latency_s": 0.2, **FULL}

KILLED_AT = 0.75
"""Of all answers. At half of them, one that inverts every row before it solves any has nothing in flight."""


class Peer(NamedTuple):
    name: str
    needs: tuple[str, ...]
    """What pip installs into its environment; nothing: it runs in this one."""
    retries: bool = True
    """Whether it goes on after a failure."""
    resumes: bool = True


PEERS = {
    "bare": Peer("bare aiohttp loop", (), retries=False, resumes=False),
    "openai-aiohttp": Peer("AsyncOpenAI loop, aiohttp", (), retries=False, resumes=False),
    "r1k": Peer("r1k-build", ()),
    "data_designer": Peer("NeMo Data Designer", ("data-designer>=0.9",)),
    "curator": Peer("Bespoke Curator", ("bespokelabs-curator>=0.1.31",)),
    "datatrove": Peer("datatrove", ("datatrove>=0.10.1", "aiofiles", "aiosqlite", "httpx", "orjson", "xxhash")),  # no vLLM
    "distilabel": Peer("distilabel", ("distilabel[openai]>=1.5.3", "requests")),  # requests: imported, not named as needed
}


class Lap(NamedTuple):
    """One run of a peer, as the host saw it."""

    seconds: float
    cpu: float
    """Seconds, from the first request to the last answer."""
    requests: int
    rows: int | None
    """None: it failed, or was not done in time."""
    repeated: int


class Race(NamedTuple):
    """What every run needs."""

    bench: Bench
    source: Path
    seconds: float
    """That a run may take."""
    pythons: Mapping[str, Path]

    def lap(
        self, peer: str, settings: Mapping[str, Any], output: Path, stop_at: int | None = None, *, again: bool = False
    ) -> Lap:
        """Run `peer` once, on what `output` holds; kill it when `stop_at` are answered. `again`: the host counts on."""
        self.bench.admin("config" if again else "reset", settings)
        began = time.time()

        def stop() -> bool:
            late = time.time() - began > self.seconds
            return late or (stop_at is not None and self.bench.admin("stats")["answered"] >= stop_at)

        try:
            done = run(self.command(peer, output), stop, python=self.pythons[peer])
        except SystemExit as failed:
            print(f"    {str(failed)[-600:]}", file=sys.stderr)
            done = None
        counts = self.bench.admin("stats")
        first, last = counts["first"], counts["last"]
        cpu = done.cpu(last) - done.cpu(first) if done is not None else 0.0
        return Lap(max(0.0, last - first), cpu, counts["requests"], None if done is None else _rows(done), counts["repeated"])

    def command(self, peer: str, output: Path) -> list[str | Path]:
        common = ["--base-url", self.bench.url, "--concurrency", str(self.bench.concurrency)]
        if not PEERS[peer].resumes:
            return [HERE.parent / "loops.py", peer, self.source, *common]
        return [HERE / f"with_{peer}.py", self.source, output, *common]


def _rows(done: Run) -> int | None:
    """What a peer says of itself, where it came to its end."""
    try:
        said = json.loads(done.output.strip().splitlines()[-1])
        return int(said["rows"]) if "rows" in said else int(said["answers"]) // 2
    except (ValueError, IndexError, KeyError, TypeError):  # it was killed, or came to no end: that line is any line
        return None


def measure(race: Race, peer: str, work: Path) -> dict[str, Any]:
    """All four of one peer, by their names; None where it has no such thing."""
    found: dict[str, Any] = {}
    for name, settings in {"overhead": OVERHEAD, "tail": TAIL, "calm": CALM, "faults": FAULTS}.items():
        if name == "faults" and not PEERS[peer].retries:
            continue
        if name == "calm" and peer != "bare":
            continue
        shutil.rmtree(work / peer, ignore_errors=True)
        found[name] = race.lap(peer, settings, work / peer)._asdict()
        print(f"  {PEERS[peer].name}, {name}: {found[name]['seconds']:.1f} s, {found[name]['rows']} rows", file=sys.stderr)
    if PEERS[peer].resumes:
        shutil.rmtree(work / peer, ignore_errors=True)
        race.lap(peer, CALM, work / peer, stop_at=int(KILLED_AT * 2 * race.bench.rows))
        found["kill"] = race.lap(peer, CALM, work / peer, again=True)._asdict()
        print(f"  {PEERS[peer].name}, killed: {found['kill']['rows']} rows, {found['kill']['repeated']} twice", file=sys.stderr)
    shutil.rmtree(work / peer, ignore_errors=True)
    return found


def table(results: Mapping[str, Mapping[str, Any] | None], rows: int) -> str:
    """What was found, as Markdown."""
    lines = [
        "| | overhead, x bare | CPU ms a request | heavy tail, x bare | 5 % faults, x bare | kill -9 at 3/4, again |",
        "|---|---|---|---|---|---|",
    ]
    bare = results.get("bare") or {}
    for peer, found in results.items():
        cells = ["not installed"] * 5 if found is None else _cells(found, bare, rows)
        lines.append(f"| {PEERS[peer].name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(found: Mapping[str, Any], bare: Mapping[str, Any], rows: int) -> list[str]:
    def times(part: str, of: str) -> str:
        if part not in found:
            return "any fault ends it"
        lap = found[part]
        if lap["rows"] is None:
            return "not done"
        ratio = f"{lap['seconds'] / bare[of]['seconds']:.2f}" if of in bare else f"{lap['seconds']:.1f} s"
        return ratio + (f", {rows - lap['rows']} rows lost" if lap["rows"] < rows else "")

    lap, kill = found["overhead"], found.get("kill")
    killed = "loses everything"
    if kill is not None:
        done = "not done" if kill["rows"] is None else f"{kill['rows']} of {rows} rows"
        killed = f"{done}, {kill['repeated']} answers paid twice"
    cpu = f"{1e3 * lap['cpu'] / max(1, lap['requests']):.2f}" if lap["rows"] is not None else "not done"
    return [times("overhead", "overhead"), cpu, times("tail", "tail"), times("faults", "calm"), killed]


def environment(peer: str, work: Path) -> Path | None:
    """The Python of a peer's environment, made where there is none; None where it can't be installed."""
    needs = PEERS[peer].needs
    if not needs:
        return Path(sys.executable)
    python = work / "venvs" / peer / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
    installing: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *needs]
    if subprocess.run(installing, check=False).returncode != 0:
        print(f"  {PEERS[peer].name} can't be installed here ({', '.join(needs)})", file=sys.stderr)
        return None
    return python


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000, metavar="N", help="source rows (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=64, metavar="N", help="requests in flight (default: %(default)s)")
    parser.add_argument("--only", metavar="PEERS", help=f"some of {','.join(PEERS)}")
    parser.add_argument(
        "--seconds", type=float, default=300.0, metavar="S", help="that one run may take (default: %(default)s)"
    )
    parser.add_argument("--work", type=Path, metavar="DIR", help="keeps the environments from one run to the next")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every figure")
    options = parser.parse_args(arguments)
    options.peers = options.only.split(",") if options.only else list(PEERS)
    if unknown := set(options.peers) - set(PEERS):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = read_options(arguments)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="r1k-peers-") as place, own_host() as url:
        work = options.work or Path(place)
        found = {peer: environment(peer, work) for peer in options.peers}
        pythons = {peer: python for peer, python in found.items() if python is not None}
        bench = Bench(url, Path(place), options.rows, 1, options.concurrency)
        source = bench.source(options.rows, FULL)
        source.with_name("templates.json").write_text(json.dumps({"invert": invert.TEMPLATE, "solve": solve.TEMPLATE}))
        race = Race(bench, source, options.seconds, pythons)
        for peer in options.peers:
            results[peer] = measure(race, peer, Path(place)) if peer in pythons else None
            if options.json:
                options.json.write_text(json.dumps(results, indent=2) + "\n")
    print(f"{options.rows:,} rows, {options.concurrency} in flight\n")
    print(table(results, options.rows))


if __name__ == "__main__":
    main()
