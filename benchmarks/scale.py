"""What a million rows cost: verified, paired and exported from sharded journals, in how long and in how much memory.

    python benchmarks/scale.py --work DIR                          100,000 and 1,000,000 rows (an hour or more on two cores)
    python benchmarks/scale.py --work DIR --pairs 5000 50000       10,000 and 100,000 rows
    python benchmarks/scale.py --work DIR --base-url URL --pairs 50000    and the whole way, asking a host that is there

Rows count both directions: a pair is two. The journals are made beforehand, one shard a process, by the embedded teacher
through the builder's own flow, without HTTP; with --base-url the build asks that host instead, over HTTP, and is measured from
its first row to the finished folder. What is measured is `r1k-build export` in a process of its own, from outside: seconds by
the clock, and the peak resident set of it and its children together. Then the folder is loaded, whole and as a stream.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from answered import write_answered
from corpus import Corpus
from measure import run

from r1k_builder.config import BuildConfig, TeacherConfig
from r1k_builder.embedded import answer
from r1k_builder.shards import Shard

FLAT = 1.10
"""By how much the largest run's peak may exceed the smallest's."""

LOADING = """
import resource, sys, time
from datasets import load_dataset
began = time.perf_counter()
rows = load_dataset(sys.argv[1], "reverse", split="train", cache_dir=sys.argv[2])
loaded = time.perf_counter() - began
pairs = load_dataset(sys.argv[1], "preference", split="train", streaming=True)
streamed = sum(1 for _ in pairs.take(20_000))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(f"{len(rows)} {loaded:.1f} {streamed} {time.perf_counter() - began - loaded:.1f} {peak}")
"""


class Solver:
    """The embedded teacher's answers as its host would send them, with chains of thought of `more` characters more."""

    def __init__(self, more: int) -> None:
        self._corpus, self._more = Corpus(), more

    def reply(self, prompt: str) -> bytes:
        found = answer(prompt)
        if self._more:
            number = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:6])
            found = found._replace(reasoning=self._corpus.text(number, self._more) + found.reasoning)
        words = [len(text.split()) for text in (prompt, found.reasoning, found.content)]
        usage = {"prompt_tokens": words[0], "completion_tokens": words[1] + words[2], "total_tokens": sum(words)}
        message = {"role": "assistant", "content": found.content, "reasoning_content": found.reasoning}
        body = {
            "id": f"chatcmpl-{hashlib.sha256(prompt.encode()).hexdigest()[:24]}",
            "model": "r1k-embedded-solver",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": usage,
        }
        return json.dumps(body).encode()


class Measured(NamedTuple):
    """One size. Seconds by the clock, bytes."""

    pairs: int
    seconds: float
    peak: int
    journals: int
    compacted: int
    folder: int
    files: int


def config_of(pairs: int) -> BuildConfig:
    teacher = TeacherConfig(preset="embedded")
    return BuildConfig(source="embedded", teacher=teacher, tokenizer="none", benchmarks=None, limit=pairs)


def make(folder: Path, pairs: int, shards: int, reasoning: int) -> None:
    """The journals, a process for each."""
    began = time.perf_counter()
    words = [sys.executable, __file__, "--work", str(folder), "--pairs", str(pairs), "--reasoning", str(reasoning), "--make"]
    making = [subprocess.Popen([*words, f"{number}/{shards}"]) for number in range(1, shards + 1)]
    if any(process.wait() for process in making):
        raise SystemExit("a shard could not be made")
    size = bytes_of(folder / ".build", "journal-*.sqlite")
    print(f"{2 * pairs:,} rows: journals made in {time.perf_counter() - began:.0f} s, {size / 1e6:,.0f} MB", flush=True)


def bytes_of(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(pattern))


def export(folder: Path, pairs: int) -> Measured:
    """Verify, pair and write all rows; then the same journals compacted."""
    ended = run(["-m", "r1k_builder", "export", folder])
    seconds = ended.samples[-1].moment - ended.began
    before = bytes_of(folder / ".build", "journal-*.sqlite")
    run(["-m", "r1k_builder", "compact", folder])
    found = Measured(
        pairs,
        seconds,
        ended.peak(),
        before,
        bytes_of(folder / ".build", "journal-*.sqlite"),
        bytes_of(folder, "*/*.parquet"),
        len(list(folder.glob("*/*.parquet"))),
    )
    print(
        f"{2 * pairs:,} rows: exported in {seconds:.0f} s, {2 * pairs / seconds:,.0f} rows/s, {ended.cpu():.0f} s of CPU,"
        f" peak {found.peak / 1e6:.0f} MB; journals {before / 1e6:,.0f} MB, compacted {found.compacted / 1e6:,.0f} MB;"
        f" {found.files} files of {found.folder / 1e6:,.0f} MB",
        flush=True,
    )
    return found


def build(folder: Path, pairs: int, base_url: str) -> None:
    """The whole way, one process: source, asking, checks, files."""
    source = folder.with_suffix(".jsonl")
    with source.open("w") as file:
        for number in range(pairs):
            row = {
                "question": f"A tank holds {number + 3} litres and takes up {number % 17 + 2} litres a minute more."
                f" When does it hold {3 * number + 40} litres?",
                "solution": f"{(2 * number + 37) / (number % 17 + 2):.3f}",
                "deepseek_thinking_trajectory": f"From {number + 3} to {3 * number + 40} it is {2 * number + 37} litres.",
                "deepseek_attempt": f"\\boxed{{{(2 * number + 37) / (number % 17 + 2):.3f}}}",
            }
            file.write(json.dumps(row) + "\n")
    words = f"--base-url {base_url} --model m --tokenizer none --benchmarks none --concurrency 128".split()
    ended = run(["-m", "r1k_builder", "--source", source, "--output", folder, *words])
    seconds = ended.samples[-1].moment - ended.began
    print(
        f"{2 * pairs:,} rows the whole way: {seconds:.0f} s, {2 * pairs / seconds:,.0f} rows/s, peak {ended.peak() / 1e6:.0f}"
        f" MB of the builder and the process that makes the dataset behind it\n{ended.output[-600:]}",
        flush=True,
    )


def load(folder: Path) -> None:
    cache = folder.with_name(f"{folder.name}-cache")
    said = subprocess.run(
        [sys.executable, "-c", LOADING, str(folder), str(cache)], check=True, capture_output=True, text=True, cwd="/"
    )
    rows, loaded, streamed, streaming, peak = said.stdout.split()
    print(
        f"  loads: {int(rows):,} rows of reverse in {loaded} s; streams: {int(streamed):,} of preference in {streaming} s;"
        f" peak {int(peak) / 1e6:.0f} MB",
        flush=True,
    )
    shutil.rmtree(cache)


def measure(work: Path, sizes: Sequence[int], shards: int, reasoning: int) -> bool:
    """Each size from nothing; whether the peak is flat."""
    found = []
    for pairs in sizes:
        folder = work / f"scale-{pairs}"
        shutil.rmtree(folder, ignore_errors=True)
        make(folder, pairs, shards, reasoning)
        found.append(export(folder, pairs))
        load(folder)
    growth = found[-1].peak / found[0].peak
    print(f"peak at {2 * found[-1].pairs:,} rows: {growth:.3f} of that at {2 * found[0].pairs:,} (flat: at most {FLAT})")
    return growth <= FLAT


def main() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder with room: some 8 GB for a million rows")
    parser.add_argument("--pairs", type=int, nargs="+", default=[50_000, 500_000], help="sizes (default: 50000 500000)")
    parser.add_argument("--shards", type=int, default=2, help="journals, made by so many processes (default: 2)")
    parser.add_argument("--reasoning", type=int, default=0, help="characters more of each chain of thought (default: 0)")
    parser.add_argument("--base-url", help="ask this host for all of it, over HTTP, instead")
    parser.add_argument("--make", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        write_answered(options.work, config_of(options.pairs[0]), Solver(options.reasoning), shard=Shard.parse(options.make))
        return None
    options.work.mkdir(parents=True, exist_ok=True)
    if options.base_url:
        for pairs in options.pairs:
            folder = options.work / f"asked-{pairs}"
            shutil.rmtree(folder, ignore_errors=True)
            build(folder, pairs, options.base_url)
            load(folder)
        return None
    return 0 if measure(options.work, options.pairs, options.shards, options.reasoning) else 1


if __name__ == "__main__":
    sys.exit(main())
