"""What a run of a million, ten million and a hundred million rows needs, by arithmetic from measured constants.

    python benchmarks/sizes.py                           the tables of docs/scale.md
    python benchmarks/sizes.py --write docs/scale.md     puts them there

Each constant says where it was measured. A test compares the tables in docs/scale.md with what this file computes.
"""

import argparse
import re
from math import ceil
from pathlib import Path
from typing import NamedTuple

from r1k_builder.build import ASSUMED_TOKENS
from r1k_builder.config import OPENAIS_OFFER, PRESETS, Price

SIZES = (10**6, 10**7, 10**8)
"""Source rows; the dataset has two for each."""
DAYS = 7
"""In which a run is to be done."""
SECONDS = 86_400
CHARACTERS = 4
"""To a token of English text."""
GPUS = 8
"""Of a node."""
REQUESTS = 2
"""For a row whose source has reasoning; where it has none, the teacher solves the forward question, too: 3."""


class Constant(NamedTuple):
    value: float
    what: str
    source: str


WRITTEN = Constant(
    ASSUMED_TOKENS["invert"] + ASSUMED_TOKENS["solve"],
    "tokens written for a row: an inversion and a solution",
    "what `--dry-run` assumes of DeepSeek-R1 (`ASSUMED_TOKENS`)",
)
READ = Constant(800, "tokens read for a row", "both templates; s1K's questions and solutions have 1,460 characters in the mean")
NODE = Constant(
    14_800,
    "tokens written a second by a node of 8 H800 that serves DeepSeek-R1",
    "DeepSeek on its own service (github.com/deepseek-ai/open-infra-index, 202502OpenSourceWeek, day 6)",
)
STREAM = Constant(21, "tokens written a second for one request", "the same: 20 to 22")
GPU_HOUR = Constant(2, "dollars for an hour of a GPU", "the same, which assumes it")
ASKED = Constant(
    58,
    "source rows a second through one build process, at least",
    "`benchmarks/scale.py --base-url`: 50,000 in 848 s, on two cores with other work",
)
EXPORTED = Constant(
    260,
    "source rows a second that an export verifies, pairs and writes",
    "`benchmarks/scale.py`: 500,000 in 1,894 s, on the same",
)
PEAK = Constant(712, "MB of memory, at most, in an export and its processes", "the same; 699 MB at a tenth of the rows")
IN_FLIGHT = Constant(4096, "requests in flight in one build process", "the most that `--concurrency` takes")
JOURNAL = Constant(
    3.0, "bytes of a journal for a byte of answers", "30 rows of s1K-1.1, with DeepSeek-R1's answers and the source's traces"
)
COMPACTED = Constant(1.3, "the same after `r1k-build compact`", "the same rows")
DATASET = Constant(3.2, "bytes of Parquet for a byte of answers", "the same rows, without `mixed-500` and `probe`")
CONSTANTS = (WRITTEN, READ, NODE, STREAM, GPU_HOUR, ASKED, IN_FLIGHT, EXPORTED, PEAK, JOURNAL, COMPACTED, DATASET)

HOSTED: Price = PRESETS["openrouter"].price  # type: ignore[assignment]  # it has one
DISK = 2e12
"""Bytes: what is easily had on one machine."""


# -- the arithmetic ------------------------------------------------------------------------------------------------


def node_days(rows: int) -> float:
    return rows * WRITTEN.value / NODE.value / SECONDS


def nodes(rows: int) -> int:
    return ceil(node_days(rows) / DAYS)


def in_flight(rows: int) -> int:
    """Requests that keep these nodes busy."""
    return ceil(nodes(rows) * NODE.value / STREAM.value)


def rows_a_second(rows: int) -> float:
    return nodes(rows) * NODE.value / WRITTEN.value


def processes(rows: int) -> int:
    """Shards, which hold what is in flight and keep up."""
    return max(ceil(in_flight(rows) / IN_FLIGHT.value), ceil(rows_a_second(rows) / ASKED.value))


def hosted(rows: int) -> float:
    """Dollars at a host, online."""
    return float(HOSTED.prompt) * rows * READ.value / 1e6 + float(HOSTED.completion) * rows * WRITTEN.value / 1e6


def volume(rows: int, kind: Constant) -> float:
    """Bytes of JOURNAL, COMPACTED or DATASET."""
    return rows * WRITTEN.value * CHARACTERS * kind.value


def exporting(rows: int) -> float:
    """Days of the one export, which is not divided."""
    return rows / EXPORTED.value / SECONDS


WEEK = {
    "a node of 8 GPUs": DAYS * SECONDS * NODE.value / WRITTEN.value,
    "a build process": DAYS * SECONDS * min(ASKED.value, IN_FLIGHT.value * STREAM.value / WRITTEN.value),
    "the export": DAYS * SECONDS * EXPORTED.value,
    "a disk of 2 TB, journals compacted, with the dataset": DISK / (volume(1, COMPACTED) + volume(1, DATASET)),
}
"""Source rows that one of each takes in a week."""


# -- the tables ----------------------------------------------------------------------------------------------------


def tables() -> str:
    return "\n".join([constants(), teacher(), builder(), limits()])


def constants() -> str:
    """Every constant with its source."""
    rows = [[f"{constant.value:,}", constant.what, constant.source] for constant in CONSTANTS]
    rows.append(
        [
            f"{HOSTED.prompt}, {HOSTED.completion}",
            "dollars for a million tokens read, written",
            f"{HOSTED.source}, {HOSTED.as_of}",
        ]
    )
    rows.append([f"{OPENAIS_OFFER.factor}", "of that price in batches, where a host sells them", f"{OPENAIS_OFFER.source}"])
    return table(["constant", "what", "from"], rows)


def teacher() -> str:
    rows = [
        [
            f"{size:,}",
            f"{size * WRITTEN.value / 1e9:,.1f}",
            f"{nodes(size):,} ({GPUS * nodes(size):,})",
            f"{node_days(size) / nodes(size):.1f}",
            f"{in_flight(size):,}",
            f"{node_days(size) * GPUS * 24 * GPU_HOUR.value:,.0f}",
            f"{hosted(size):,.0f}",
            f"{hosted(size) * float(OPENAIS_OFFER.factor):,.0f}",
        ]
        for size in SIZES
    ]
    head = [
        "source rows",
        "10⁹ tokens",
        "nodes (GPUs)",
        "days",
        "requests in flight",
        "$ own nodes",
        "$ at a host",
        "$ in batches",
    ]
    return table(head, rows)


def builder() -> str:
    rows = [
        [
            f"{size:,}",
            f"{REQUESTS * rows_a_second(size):,.1f}",
            f"{processes(size):,}",
            *(shown(volume(size, kind)) for kind in (JOURNAL, COMPACTED, DATASET)),
            f"{24 * exporting(size):,.1f}",
            f"{PEAK.value:,.0f}",
        ]
        for size in SIZES
    ]
    head = [
        "source rows",
        "requests/s",
        "shards at least",
        "journals",
        "compacted",
        "dataset",
        "hours of export",
        "MB of memory",
    ]
    return table(head, rows)


def limits() -> str:
    """How many of each a run in a week takes: where there are many, there it is limited first."""
    ordered = sorted(WEEK, key=WEEK.__getitem__)
    rows = [[name, f"{WEEK[name]:,.0f}", *(f"{size / WEEK[name]:,.2f}" for size in SIZES)] for name in ordered]
    return table(["one of", "takes so many rows in a week", *(f"needed for {size:,}" for size in SIZES)], rows)


def table(head: list[str], rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *rows))


def shown(size: float) -> str:
    return f"{size / 1e12:,.1f} TB" if size >= 1e12 else f"{size / 1e9:,.0f} GB"


def filled(text: str) -> str:
    """`text` with today's tables between their marks."""
    return re.sub(
        r"(<!-- sizes:(\w+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{globals()[found[2]]()}{found[3]}",
        text,
        flags=re.DOTALL,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the tables in this file")
    options = parser.parse_args()
    if options.write is None:
        print(tables())
    else:
        options.write.write_text(filled(options.write.read_text()))


if __name__ == "__main__":
    main()
