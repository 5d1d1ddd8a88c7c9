"""The study's command: settings, processes, and what is resumed."""

import argparse
import dataclasses
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from r1k_train import data
from r1k_train.study import figures, report
from r1k_train.study.design import Base, Settings, one_thread, prepare, run_base, settings_record
from r1k_train.study.results import Results
from r1k_train.study.rows import Pairs, read_pairs
from r1k_train.study.training import HEAD

EXAMPLES = """\
examples:
  r1k-build --source embedded --teacher embedded --limit 8000 --tokenizer none --output study/train
  r1k-build --source embedded --teacher embedded --limit 1200 --split heldout --tokenizer none --output study/heldout
  python -m r1k_train study --train study/train --heldout study/heldout --out study     (`make study` is these three)

What has ended is kept: the same command goes on where a killed one was, and a larger --bases adds to the bases that there are.
"""
RECORD = "study.json"
Work = tuple[Pairs, Pairs, Settings, Path, int]
"""Training pairs, held-out pairs, settings, folder, and the base's number."""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="r1k_train study", description="Mixed data and DPO in miniature: bases from scratch, runs, and a report.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--train", default="study/train", help="A folder of the embedded bank (default: study/train).")
    parser.add_argument("--heldout", default="study/heldout", help="One of its held-out part (default: study/heldout).")
    parser.add_argument("--out", type=Path, default=Path("study"), help="Where runs, report and figures go (default: ./study).")
    parser.add_argument("--processes", type=int, help="Bases at a time, one thread each (default: as many as cores).")
    for one in dataclasses.fields(Settings):
        default: Any = one.default
        many = isinstance(default, tuple)
        said = " ".join(f"{value:g}" for value in default) if many else f"{default:g}"
        parser.add_argument(f"--{one.name}", type=float if many else type(default), nargs="+" if many else None,
                            default=default, help=f"{one.metadata['help']} (default: {said})")  # fmt: skip
    return parser


def main(words: list[str]) -> int:
    """Run what is missing, then write the report; the exit status."""
    options = make_parser().parse_args(words)
    given: dict[str, Any] = {one.name: getattr(options, one.name) for one in dataclasses.fields(Settings)}
    settings = Settings(**{**given, "rates": tuple(given["rates"])})
    try:
        return _run(options, settings)
    except data.DataError as error:
        print(f"r1k_train study: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"r1k_train study: interrupted; the same command goes on from {options.out}", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace, settings: Settings) -> int:
    _check(settings)
    train, heldout = (data.load_rows(name, "mixed") for name in (options.train, options.heldout))
    pairs = read_pairs(train, settings.limit), read_pairs(heldout, settings.limit)
    facts = {"training": _said(pairs[0], train), "held out": _said(pairs[1], heldout)}
    if both := pairs[0].keys() & pairs[1].keys():
        raise data.DataError(f"{len(both):,} held-out pairs are training pairs: build --heldout with r1k-build --split heldout")
    for number in range(settings.bases):  # what else is wrong with the rows is said before any process starts
        _check_rows(prepare(*pairs, settings, options.out, number))
    _claim(options.out, {"settings": settings_record(settings), "data": [data.digest(rows) for rows in (train, heldout)]})
    begun = time.monotonic()
    processes = min(options.processes or os.cpu_count() or 1, settings.bases)
    work = [(pairs[0], pairs[1], settings, options.out, number) for number in range(settings.bases)]
    for number in _mapped(work, processes):
        print(f"base {number} is done ({(time.monotonic() - begun) / 60:.1f} minutes)", flush=True)
    results = Results(options.out, settings)
    drawn = figures.draw(results, options.out)
    written = report.write(results, options.out, facts)
    print(f"written: {written}, {', '.join(path.name for path in drawn)}")
    return 0


def _mapped(work: Sequence[Work], processes: int) -> Iterator[int]:
    """Each base's number as it ends: in this process, or in several."""
    if processes == 1:
        threads = torch.get_num_threads()
        one_thread()
        yield from map(_base, work)
        torch.set_num_threads(threads)
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=one_thread) as pool:
        yield from pool.map(_base, work)


def _base(work: Work) -> int:
    train, heldout, settings, out, number = work
    run_base(prepare(train, heldout, settings, out, number), lambda line: print(line, flush=True))
    return number


def _check(settings: Settings) -> None:
    """Refuse what no run could be made with."""
    if settings.hidden % HEAD or settings.hidden <= 0:
        raise data.DataError(f"--hidden {settings.hidden}: heads are {HEAD} wide, so type a multiple of {HEAD}")
    if settings.limit < 10:
        raise data.DataError(f"--limit {settings.limit}: no arithmetic is left below it; type 10 or more")
    if len(settings.rates) < 2:
        raise data.DataError("--rates: type two learning rates or more; DPO + NLL and SFT alone take the second")
    for name in (
        "bases",
        "layers",
        "base_steps",
        "tune_pairs",
        "tune_epochs",
        "batch",
        "pair_steps",
        "pair_batch",
        "test_pairs",
    ):
        if getattr(settings, name) < 1:
            raise data.DataError(f"--{name} {getattr(settings, name)}: type 1 or more")


def _check_rows(base: Base) -> None:
    """Refuse fewer pairs than the settings name: the report says how many there were."""
    for option, found, folder in (("tune_pairs", base.tuning, "train"), ("test_pairs", base.test, "heldout")):
        if len(found) < getattr(base.settings, option):
            raise data.DataError(
                f"base {base.number} has {len(found):,} pairs for --{option} {getattr(base.settings, option):,}: type a smaller"
                f" number, or build --{folder} with a larger --limit"
            )


def _said(pairs: Pairs, rows: Dataset) -> str:
    relations = {pair["forward"].relation for pair in pairs.values()}
    return f"{len(pairs):,} pairs of {len(relations)} relations, of {len(rows):,} rows (SHA-256 {data.digest(rows)[:12]}…)"


def _claim(out: Path, record: dict[str, Any]) -> None:
    """Make the folder this study's. Raises DataError where it holds one with other settings or rows."""
    path = out / RECORD
    if path.exists():
        known = json.loads(path.read_text())
        if differing := sorted(_differences(known, record)):
            raise data.DataError(
                f"{out} holds a study with other {', '.join(differing)}: name another folder with --out, or remove it"
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(record, indent=2) + "\n")
    beside.replace(path)


def _differences(known: dict[str, Any], record: dict[str, Any]) -> Sequence[str]:
    names = known["settings"].keys() | record["settings"].keys()
    return [name for name in names if known["settings"].get(name) != record["settings"].get(name)] + (
        ["rows"] if known["data"] != record["data"] else []
    )
