"""Do the checks find what is wrong? Faults are planted, a build is made of them, and its verdicts are counted.

  planted   rows of the embedded bank, 2 in 5 of them clean, each of the others with one of the faults of faults.py, given by a
            host of this program's own to a real r1k-build: what share of each fault fails a check, and of clean rows
  labels    the real pairs of a folder that was built from recordings, against what an annotator said of them

A row is found where any check fails it: it is not in reverse-verified then. All shares with 95 % intervals (Wilson). The
status is 1 where a goal is missed: 95 % of each fault that a check which asks nobody is to find, 1 % of the clean rows.
"""

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from faults import FAULTS, FREE, Fault, Row, clean, contaminated, in_words
from judging import Judge

from r1k_builder.embedded import facts
from r1k_builder.schema import CHECKS, identify
from r1k_builder.tells import wilson

EXAMPLES = """\
examples:
  python benchmarks/verify.py --math500 math500.jsonl            2,000 rows with planted faults (half a minute)
  python benchmarks/verify.py --rows 400 --seed 3                fewer, without the contaminated ones
  python benchmarks/verify.py --judge 0.95                       with a simulated judge that is right 95 times in 100
  python benchmarks/verify.py --labels labels.csv --pairs r1k --recordings recordings.parquet
"""

CLEAN = 0.4
"""Share of the rows without a fault."""
LEAST_RECALL = 0.95
MOST_FALSE_ALARMS = 0.01

# -- planted faults ------------------------------------------------------------------------------------------------


def plant(rows: int, seed: int, items: Sequence[str]) -> list[tuple[str, Row]]:
    """`rows` rows with the names of their faults, "clean" for none, in an order that says nothing.

    A near-duplicate stands behind the clean row that it repeats, which counts as clean.
    """
    draw = random.Random(seed)
    faults: dict[str, Fault] = {**FAULTS, **({"contaminated": contaminated(items)} if items else {})}
    plan = ["clean"] * round(rows * CLEAN)
    plan += [name for _ in range(rows) for name in faults][: rows - len(plan)]
    draw.shuffle(plan)
    source = map(clean, facts(seed=seed))
    originals, others = list(islice(source, rows)), islice(source, rows)
    planted: list[tuple[str, Row]] = []
    for name, row in zip(plan, originals, strict=True):
        before = planted[-1][1] if planted and planted[-1][0] == "clean" else None
        if name == "near-duplicate" and before is None:
            planted.append(("clean", row))
            before = row
        base = before if name == "near-duplicate" and before is not None else row
        planted.append((name, row if name == "clean" else faults[name](base, next(others), draw)))
    return planted


class Teacher(ThreadingHTTPServer):
    """A host that answers with the planted rows: an inversion by the forward question, a solution by the reverse one."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, rows: Sequence[Row], judge: Judge | None) -> None:
        self.judge = judge
        self.inversions = {
            row.question.strip(): f"New Question: {row.new_question}\n\nNew Answer: {row.new_answer}" for row in rows
        }
        self.solutions = {row.new_question.strip(): (row.reverse_answer, row.reverse_reasoning) for row in rows}
        super().__init__(("127.0.0.1", 0), _Answers)

    def reply(self, prompt: str) -> tuple[str, str]:
        """Content and reasoning."""
        if self.judge is not None and (verdict := self.judge.reply(prompt)) is not None:
            return verdict, "Weighed."
        body, _, tail = prompt.partition("- Question:")[2].rpartition('"instructions"')
        if "- New Question:" in tail:
            return self.inversions[body.rpartition("- Answer:")[0].strip()], "Turned round."
        return self.solutions[body.strip()]


class _Answers(BaseHTTPRequestHandler):
    server: Teacher
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content, reasoning = self.server.reply(request["messages"][-1]["content"])
        message = {"role": "assistant", "content": content, "reasoning_content": reasoning}
        body = {"model": "planted", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1}}  # fmt: skip
        encoded = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(rows: Sequence[Row], judge: Judge | None) -> Iterator[str]:
    with Teacher(rows, judge) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


def build(rows: Sequence[Row], folder: Path, math500: Path | None, judge: Judge | None) -> float:
    """A real build of the rows; seconds."""
    source = folder.with_suffix(".jsonl")
    lines = (
        {"question": row.question, "solution": row.solution, "deepseek_thinking_trajectory": row.reasoning,
         "deepseek_attempt": row.answer, "cot_type": "math", "source_type": "planted"}
        for row in rows
    )  # fmt: skip
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    began = time.time()
    with serving(rows, judge) as url:
        compared = f"math500={math500}" if math500 else "none"
        command = ["--source", source, "--base-url", url, "--model", "planted", "--tokenizer", "none", "--output", folder]
        command += ["--judge", "judge", "--judge-base-url", url] if judge else []
        done = subprocess.run(
            [sys.executable, "-m", "r1k_builder", *map(str, command), "--benchmarks", compared],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"the build has ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return time.time() - began


def verdicts(folder: Path) -> dict[str, dict[str, Any]]:
    """The verdicts of the reverse rows, rejected ones too, by pair_id."""
    found = {}
    for config in ("reverse", "rejected"):
        for file in sorted((folder / config).glob("*.parquet")):
            for row in pq.read_table(file, columns=["pair_id", "direction", "verdict"]).to_pylist():
                if row["direction"] == "reverse":
                    found[row["pair_id"]] = row["verdict"]
    return found


def fails(verdict: Mapping[str, Any]) -> list[str]:
    return [check for check in CHECKS if verdict[check]["status"] == "fail"]


def planted(options: argparse.Namespace) -> int:
    """The first part."""
    items = [json.loads(line)["problem"] for line in options.math500.read_text().splitlines()] if options.math500 else []
    rows = plant(options.rows, options.seed, items)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "r1k"
        judge = Judge({row.new_question.strip(): fault for fault, row in rows}, options.judge) if options.judge else None
        seconds = build([row for _, row in rows], folder, options.math500, judge)
        found = verdicts(folder)
    if items:
        print(
            f"{len(in_words(items))} of {len(items)} items of {options.math500.name} say something in words and can be planted"
        )
    asked = f"a simulated one, right in {options.judge:.0%} of its words" if options.judge else "none was asked"
    print(f"{len(rows):,} rows, seed {options.seed}, built and checked in {seconds:.0f} s; judge: {asked}\n")
    print(f"{'fault':<18}{'rows':>6}{'found':>7}{'recall':>8}  {'95 % interval':<15} by")
    missed = []
    for name in dict.fromkeys([*FREE, *FAULTS, "clean"]):
        kind = [row for fault, row in rows if fault == name]
        if not kind:
            print(f"{name:<18}{'not planted: needs --math500 FILE':>39}")
            continue
        by = [fails(found[identify(row.question, row.solution)]) for row in kind]
        share, (low, high) = sum(map(bool, by)) / len(by), wilson(sum(map(bool, by)) / len(by), len(by))
        names = ", ".join(f"{check} {count}" for check, count in Counter(check for row in by for check in row).most_common(4))
        print(f"{name:<18}{len(kind):>6}{sum(map(bool, by)):>7}{share:>8.1%}  {low:.1%}–{high:<8.1%} {names}")
        false_alarms = name == "clean" and share > MOST_FALSE_ALARMS and not options.judge  # those of a judge are its own
        if (name in FREE and share < LEAST_RECALL) or false_alarms:
            missed.append(name)
        if options.show == name:
            unexpected = [row for row, checks in zip(kind, by, strict=True) if bool(checks) == (name == "clean")]
            _show([(row, found[identify(row.question, row.solution)]) for row in unexpected])
    print(f"\nmissed: {', '.join(missed)}" if missed else "\nevery goal is met")
    return 1 if missed else 0


def _show(rows: Sequence[tuple[Row, Mapping[str, Any]]]) -> None:
    names = ("question", "solution", "new_question", "new_answer", "reverse_reasoning", "reverse_answer")
    for row, verdict in rows[:12]:
        telling = {check: result for check, result in verdict.items() if result["status"] in {"fail", "unknown"}}
        texts = {name: getattr(row, name) for name in names}
        print(json.dumps({**texts, "verdict": telling}, ensure_ascii=False, indent=1))


# -- real pairs ----------------------------------------------------------------------------------------------------

LABELS = ("yes", "partly", "no")
SAME_FINALS = ("517", "122")
"""Pairs whose final answers coincide: nine numbers, and a telescoping series."""
DAMAGED = "726"
"""A proof that lost its formulas on its way."""


def real(options: argparse.Namespace) -> int:
    """The second part: tables, then what must hold."""
    labels = {row["s1k_id"]: row for row in csv.DictReader(options.labels.open(newline=""))}
    ids = {
        row["question"]: str(row["s1k_id"])
        for row in pq.read_table(options.recordings, columns=["s1k_id", "question"]).to_pylist()
    }
    columns = ["pair_id", "question", "source_type", "verdict"]
    files = (options.pairs / "forward").glob("*.parquet")
    forward = [row for file in files for row in pq.read_table(file, columns=columns).to_pylist()]
    found = verdicts(options.pairs)
    pairs = {ids[row["question"]]: (row, found[row["pair_id"]]) for row in forward if ids[row["question"]] in labels}
    print(f"{len(pairs)} of {len(labels)} labelled pairs are in {options.pairs}\n")
    for check in CHECKS:
        if any(verdict[check]["status"] != "not-run" for _, verdict in pairs.values()):
            _table(check, "reversed", labels, {name: verdict[check]["status"] for name, (_, verdict) in pairs.items()})
    for check in ("agreement", "hedged"):
        _table(check, "r1_correct", labels, {name: verdict[check]["status"] for name, (_, verdict) in pairs.items()})
    return _must_hold(options.pairs, labels, pairs)


def _table(check: str, column: str, labels: Mapping[str, Mapping[str, str]], statuses: Mapping[str, str]) -> None:
    """Label against status, and of each label the share that fails."""
    shown = ("pass", "fail", "unknown")
    print(f"{check:<16}{column:<12}" + "".join(f"{status:>9}" for status in shown) + "   share that fails")
    values = dict.fromkeys([*LABELS, *(labels[name][column] for name in statuses)])
    for value in values:
        of_label = Counter(status for name, status in statuses.items() if labels[name][column] == value)
        if total := of_label.total():
            low, high = wilson(of_label["fail"] / total, total)
            print(f"{'':<16}{value:<12}" + "".join(f"{of_label[status]:>9}" for status in shown)
                  + f"   {of_label['fail'] / total:.0%} ({low:.0%}–{high:.0%})")  # fmt: skip
    print()


def _must_hold(folder: Path, labels: Mapping[str, Mapping[str, str]], pairs: Mapping[str, tuple[Any, Any]]) -> int:
    def status(name: str, check: str) -> str:
        return str(pairs[name][1][check]["status"])

    def labelled(value: str) -> list[str]:
        return [name for name in pairs if labels[name]["reversed"] == value]

    gpqa = [name for name, (row, _) in pairs.items() if "gpqa" in row["source_type"].lower()]
    tells = json.loads((folder / ".build" / "manifest.json").read_text())["tells"]["parts"]
    told = [tell["words"] for tell in tells["answer_first"]["tells"]] if tells else []
    rejected = [name for name, (_, verdict) in pairs.items() if {"format", "copy"} & set(fails(verdict))]
    flagged = [name for name in gpqa if status(name, "contamination") == "fail"]
    goals = {
        "no pair labelled reversed fails `reversed`": [name for name in labelled("yes") if status(name, "reversed") == "fail"]
        == [],
        "the two whose final answers coincide fail it": all(status(name, "reversed") == "fail" for name in SAME_FINALS),
        "nothing labelled no passes it": [name for name in labelled("no") if status(name, "reversed") == "pass"] == [],
        f"row {DAMAGED} is `boxed: unknown` and fails `intact`": (status(DAMAGED, "boxed"), status(DAMAGED, "intact"))
        == ("unknown", "fail"),
        f"the {len(gpqa)} rows whose source is GPQA are found": len(flagged) == len(gpqa) > 0,
        "the “Answer:” tell is found": "Answer:" in told,
        "no real pair is rejected": not rejected and len(pairs) == len(labels),
    }
    for goal, holds in goals.items():
        print(f"{'holds ' if holds else 'MISSED'}  {goal}")
    return 0 if all(goals.values()) else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000, help="rows with and without faults (default: 2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--judge", type=float, metavar="SHARE", help="ask a simulated judge, too, right in this share of its words"
    )
    parser.add_argument("--math500", type=Path, metavar="FILE", help="items of MATH-500, JSON lines with `problem`")
    parser.add_argument(
        "--show", metavar="FAULT", help="print a dozen rows of a fault that were not found, or of clean that were"
    )
    parser.add_argument("--labels", type=Path, metavar="FILE", help="s1k_id, reversed, r1_correct, … of real pairs, CSV")
    parser.add_argument("--pairs", type=Path, metavar="DIR", help="with --labels: the folder that holds these pairs")
    parser.add_argument("--recordings", type=Path, metavar="FILE", help="with --labels: Parquet with s1k_id and question")
    options = parser.parse_args()
    if options.labels is None:
        return planted(options)
    if options.pairs is None or options.recordings is None:
        parser.error("--labels needs --pairs DIR and --recordings FILE")
    return real(options)


if __name__ == "__main__":
    sys.exit(main())
