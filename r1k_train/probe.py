"""`python -m r1k_train probe`, or `accelerate launch r1k_train probe` on several devices: ALP of both responses, and where the
rest of the probability goes, of a model, of an adapter, or of every checkpoint of a run.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import PartialState
from datasets import Dataset
from torch import nn

from r1k_train import data, samples
from r1k_train.ches import ches_everywhere
from r1k_train.measures import (
    SETS,
    WINDOWS,
    Estimate,
    ProbeRow,
    Record,
    Response,
    displacement,
    scorables,
    summarise,
    tabulate,
)
from r1k_train.probing import everywhere
from r1k_train.published import published_records
from r1k_train.sampling import sample
from r1k_train.scoring import TOKENS_AT_ONCE, Scorable, context_length

EXAMPLES = """\
examples:
  python -m r1k_train probe --model Qwen/Qwen2.5-7B-Instruct --dataset_name r1k
  python -m r1k_train probe --model Qwen/Qwen2.5-7B-Instruct --adapter runs/sft-mixed --dataset_name r1k --output probe-mixed
  python -m r1k_train probe --model Qwen/Qwen2.5-7B-Instruct --checkpoints runs/sft-mixed --dataset_name r1k
  accelerate launch --num_processes 4 r1k_train probe --model ... --dataset_name r1k
  python -m r1k_train probe --model ... --dataset_name r1k --protocol published     as the authors' script scores
  python -m r1k_train probe --model ... --dataset_name r1k --generate 4             what it writes: samples.html
  python -m r1k_train figures probe-mixed                                           draws what this writes
"""

SCORES, SUMMARY, PAGE = "scores.parquet", "summary.json", "samples.html"


class Point(NamedTuple):
    """A model to probe: a base with an adapter, or a whole model, at a step of a run."""

    run: str
    step: int | None
    epoch: float | None
    path: str | None
    """Of the adapter or the model; None: the base itself."""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="r1k_train probe", description="Log-probabilities of preferred and dispreferred responses, and where mass goes.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--model", required=True, help="Hub id or folder of the model, or of the base of --adapter.")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--adapter", help="Folder or Hub id of a peft adapter.")
    which.add_argument("--checkpoints", metavar="DIR", help="A run's folder: each checkpoint-N in it is probed.")
    parser.add_argument(
        "--dataset_name", default="r1k", help="An r1k folder or Hub id, or the authors' Parquet (default: r1k)."
    )
    parser.add_argument("--dataset_config", default="probe", help="probe, preference or preference-control (default: probe).")
    parser.add_argument("--dataset_revision", help="The Hub dataset's revision.")
    parser.add_argument("--reasoning_format", choices=("s1", "think"), default="s1", help="As in training (default: s1).")
    parser.add_argument("--answer_prefix", default="", help="As in training.")
    parser.add_argument("--windows", type=int, nargs="+", default=list(WINDOWS), help="First tokens that are averaged over.")
    parser.add_argument("--no_answers", action="store_true", help="Read nothing beyond the longest window.")
    parser.add_argument("--protocol", choices=("r1k", "published"), default="r1k", help="published: the authors' own scoring.")
    parser.add_argument("--ches", action="store_true", help="Also each pair's CHES: which pairs will displace likelihood.")
    parser.add_argument("--generate", type=int, metavar="K", help="Also K answers a prompt, sorted by direction, to read.")
    parser.add_argument("--max_new_tokens", type=int, default=1000, help="Of each of them (default: 1000).")
    parser.add_argument("--temperature", type=float, default=1.0, help="They are sampled at (default: 1, as the model is).")
    parser.add_argument("--output", type=Path, default=Path("probe"), help="Folder for table and summary (default: ./probe).")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto", help="Of the weights.")
    parser.add_argument("--tokens_at_once", type=int, default=TOKENS_AT_ONCE, help=f"Of a batch (default: {TOKENS_AT_ONCE}).")
    parser.add_argument("--limit", type=int, help="Only the first N pairs.")
    parser.add_argument("--seed", type=int, default=0, help="Of the shuffled responses and the bootstrap (default: 0).")
    return parser


def main(words: list[str]) -> int:
    """Probe, write the table and its summary, print the summary; the exit status."""
    options = make_parser().parse_args(words)
    try:
        return _run(options)
    except data.DataError as error:
        print(f"r1k_train probe: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    state = PartialState()
    points = list(_points(options))
    rows = data.load_rows(options.dataset_name, options.dataset_config, options.dataset_revision, keep_published=True)
    if "chosen" not in rows.column_names:
        raise data.DataError(f"{options.dataset_config} has no pairs of responses: take --dataset_config probe or preference")
    if options.generate is not None and min(options.generate, options.max_new_tokens) < 1:
        raise data.DataError("--generate and --max_new_tokens count from 1: leave --generate out for no answers")
    if options.limit:
        rows = rows.select(range(min(options.limit, len(rows))))
    tokenizer = _tokenizer(options.model)
    records: list[Record] = []
    written: list[samples.Sample] = []
    for point, model in _models(options, points, state):
        found = _probe(model, tokenizer, rows, options, state)
        where = {"run": point.run, "step": point.step, "epoch": point.epoch}
        records += [where | record for record in found]
        if options.generate:
            written += [where | drawn for drawn in _answers(model, tokenizer, rows, options, state)]
    if state.is_main_process:
        _write(options, rows, points, records, written)
    state.wait_for_everyone()
    return 0


# -- the rows ------------------------------------------------------------------------------------------------------


def probe_rows(
    rows: Dataset, tokenizer: Any, reasoning_format: data.ReasoningFormat, answer_prefix: str = ""
) -> list[ProbeRow]:
    """Rows with `chosen` and `rejected`, as tokens; a response of which neither reasoning nor answer is there has none."""

    def response(prompt: list[dict[str, str]], turns: list[dict[str, str]]) -> tuple[list[int], Response]:
        if not "".join(data.split(turns[0]["content"])).strip():
            return data.tokens(tokenizer, prompt, turns)[0], Response(())
        text = data.response_text(turns[0]["content"], reasoning_format, answer_prefix)
        begun, ids = data.tokens(tokenizer, prompt, [{"role": "assistant", "content": text}])
        before = text[: data.answer_start(text, reasoning_format)]
        _, reasoning = data.tokens(tokenizer, prompt, [{"role": "assistant", "content": before}])
        return begun, Response(tuple(ids), _shared(ids, reasoning) if len(before) < len(text) else None)

    found = []
    for row in rows:
        prompt, preferred = response(row["prompt"], row["chosen"])
        _, dispreferred = response(row["prompt"], row["rejected"])
        found.append(ProbeRow(row["pair_id"], row["direction"], tuple(prompt), preferred, dispreferred))
    return found


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def fitting(rows: Sequence[ProbeRow], longest: int, answers: bool, most: int | None) -> tuple[list[ProbeRow], list[str]]:
    """The rows that can be scored, and a line for what can't: an empty response, a text beyond the model's context, a row
    without its counterpart (which stays, but counts in no measure that compares the two)."""
    kept, notes = [], []
    forward, reverse = ({row.pair_id for row in rows if row.direction == direction} for direction in SETS["T_m"])
    for row in rows:
        name = f"{row.pair_id}-{row.direction}"
        responses = (row.preferred, row.dispreferred)
        if not all(response.tokens for response in responses):
            notes.append(f"{name}: a response is empty; the row is left out")
            continue
        whole = max(len(response.tokens) for response in responses)
        if most is not None and len(row.prompt) + min(longest, whole) > most:
            notes.append(f"{name}: prompt and window have more than the model's {most:,} tokens; the row is left out")
            continue
        if most is not None and answers and len(row.prompt) + whole > most:
            notes.append(f"{name}: a response is longer than the model's context of {most:,} tokens; no answer part is scored")
            row = _without_answers(row)
        if row.pair_id not in forward & reverse:
            notes.append(f"{name}: its counterpart is missing")
        kept.append(row)
    return kept, notes


def _without_answers(row: ProbeRow) -> ProbeRow:
    one, other = (Response(response.tokens, None) for response in (row.preferred, row.dispreferred))
    return ProbeRow(row.pair_id, row.direction, row.prompt, one, other)


# -- the models ----------------------------------------------------------------------------------------------------


def _points(options: argparse.Namespace) -> Iterator[Point]:
    if options.checkpoints is None:
        yield Point(options.adapter or options.model, None, None, options.adapter)
        return
    folder = Path(options.checkpoints)
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    if not found:
        raise data.DataError(f"{folder} holds no checkpoint-N: name a run's folder with --checkpoints")
    for path in found:
        state = json.loads((path / "trainer_state.json").read_text()) if (path / "trainer_state.json").exists() else {}
        yield Point(folder.name, int(path.name.rpartition("-")[2]), state.get("epoch"), str(path))


def _tokenizer(model: str) -> Any:
    from transformers import AutoTokenizer

    return _reached(lambda: AutoTokenizer.from_pretrained(model), model)


def _reached(load: Any, name: str) -> Any:
    """What `load` loads. Raises DataError where the Hub or the folder does not give it."""
    try:
        return load()
    except (OSError, ValueError) as error:  # not there, not reachable, not a model
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:300]
        raise data.DataError(f"{name} can't be loaded ({reason}): check --model, --adapter and the network") from error


def _models(options: argparse.Namespace, points: Sequence[Point], state: PartialState) -> Iterator[tuple[Point, nn.Module]]:
    """Each point's model in turn: adapters are swapped on one base, whole models are loaded one after another."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    def load(name: str) -> Any:
        model = _reached(lambda: AutoModelForCausalLM.from_pretrained(name, dtype=options.dtype), name)
        return model.to(state.device).eval()

    base = None
    for point in points:
        whole = point.path is not None and not (Path(point.path) / "adapter_config.json").exists() and Path(point.path).exists()
        if whole:
            yield point, load(str(point.path))
            continue
        base = base if base is not None else load(options.model)
        if point.path is None:
            yield point, base
            continue
        adapted = _reached(lambda: PeftModel.from_pretrained(base, point.path), str(point.path))  # noqa: B023  # called at once
        yield point, adapted
        base = adapted.unload()


# -- one model -----------------------------------------------------------------------------------------------------


def _probe(model: nn.Module, tokenizer: Any, rows: Dataset, options: argparse.Namespace, state: PartialState) -> list[Record]:
    """The model's records, gathered from all processes on each."""
    if options.protocol == "published":
        records = published_records(model, tokenizer, rows)
        scored = {(record["pair_id"], record["direction"]) for record in records}
        for row in rows if state.is_main_process else ():
            if (row["pair_id"], row["direction"]) not in scored:
                name = f"{row['pair_id']}-{row['direction']}"
                print(f"r1k_train probe: {name}: a side has no score; left out, as the authors' script does", file=sys.stderr)
        return records
    longest = max(options.windows)
    answers = not options.no_answers
    read = probe_rows(rows, tokenizer, options.reasoning_format, options.answer_prefix)
    kept, notes = fitting(read, longest, answers, context_length(model))
    for line in notes if state.is_main_process else ():
        print(f"r1k_train probe: {line}", file=sys.stderr)
    sequences = scorables(kept, longest=longest, answers=answers, seed=options.seed)
    records = tabulate(kept, sequences, everywhere(model, sequences, state, options.tokens_at_once), options.windows)
    if options.ches:
        records += _ches_records(model, kept, state, options.tokens_at_once)
    return records


def _answers(
    model: nn.Module, tokenizer: Any, rows: Dataset, options: argparse.Namespace, state: PartialState
) -> list[samples.Sample]:
    """Sampled answers, sorted; each process writes those of its share of the rows, and every process gets all."""
    mine = range(state.process_index, len(rows), state.num_processes)
    prompts = [
        tokenizer.apply_chat_template(rows[number]["prompt"], add_generation_prompt=True, tokenize=True, return_dict=False)
        for number in mine
    ]
    most = context_length(model)
    room = options.max_new_tokens if most is None else min(options.max_new_tokens, most - max(map(len, prompts), default=0))
    if room < 1:
        raise data.DataError(f"a prompt leaves no room in the model's context of {most:,} tokens: leave --generate out")
    if room < options.max_new_tokens and state.is_main_process:
        print(f"r1k_train probe: answers end after {room:,} tokens, where the model's context does", file=sys.stderr)
    ends = _ends(model, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends, default=0)
    drawn = sample(
        model, prompts, options.generate, most_tokens=room, end=ends, pad=pad,
        temperature=options.temperature, tokens_at_once=options.tokens_at_once, seed=options.seed + state.process_index,
    )  # fmt: skip
    sides = [samples.Sides(*(_said(row[side], options) for side in ("chosen", "rejected"))) for row in rows]
    found: list[samples.Sample] = []
    with samples.Sorter(sides) as sorter:
        for number, answers in zip(mine, drawn, strict=True):
            for place, ids in enumerate(answers):
                finished = ids[-1:] != () and ids[-1] in ends
                text = tokenizer.decode(ids[:-1] if finished else ids)
                kind, by = sorter.sort(text, sides[number])
                found.append({
                    "pair_id": rows[number]["pair_id"], "direction": rows[number]["direction"], "sample": place, "kind": kind,
                    "by": by, "tokens": len(ids), "finished": finished, "text": text,
                })  # fmt: skip
    if state.num_processes == 1:
        return found
    from accelerate.utils import gather_object

    return list(gather_object(found))


def _said(turns: list[dict[str, str]], options: argparse.Namespace) -> str:
    return data.response_text(turns[0]["content"], options.reasoning_format, options.answer_prefix)


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end a response: the tokenizer's, and what the model's generation settings name."""
    named = model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])}
    return sorted(end for end in ends if end is not None)


def _ches_records(model: nn.Module, rows: Sequence[ProbeRow], state: PartialState, tokens_at_once: int) -> list[Record]:
    preferred = [Scorable(row.prompt, row.preferred.tokens) for row in rows]
    dispreferred = [Scorable(row.prompt, row.dispreferred.tokens) for row in rows]
    scores = ches_everywhere(model, preferred, dispreferred, state, tokens_at_once)
    return [
        {"pair_id": row.pair_id, "direction": row.direction, "response": "ches", "window": "all",
         "tokens": len(row.preferred.tokens), "alp": found, "greedy": None, "entropy": None}
        for row, found in zip(rows, scores, strict=True)
    ]  # fmt: skip


# -- what is written -----------------------------------------------------------------------------------------------


def _write(
    options: argparse.Namespace,
    rows: Dataset,
    points: Sequence[Point],
    records: Sequence[Record],
    written: Sequence[samples.Sample],
) -> None:
    options.output.mkdir(parents=True, exist_ok=True)
    table = Dataset.from_list(list(records))
    table.to_parquet(options.output / SCORES)
    table.to_csv(options.output / SCORES.replace(".parquet", ".csv"))
    window = str(max(options.windows)) if options.protocol == "r1k" else "published"
    summaries = [(point, summarise(_of(records, point), window, options.seed)) for point in points]
    facts = {
        "model": options.model, "adapter": options.adapter, "checkpoints": options.checkpoints, "dataset": options.dataset_name,
        "config": options.dataset_config, "revision": options.dataset_revision, "digest": data.digest(rows), "rows": len(rows),
        "protocol": options.protocol, "reasoning_format": options.reasoning_format, "windows": options.windows,
        "window": window, "seed": options.seed, "torch": torch.__version__,
    }  # fmt: skip
    sorts = {point: samples.shares(_of(written, point), options.seed) for point in points} if options.generate else {}
    content = {
        **facts,
        "points": [
            {**point._asdict(), "sets": _plain(summary)} | ({"answers": _plain(sorts[point])} if point in sorts else {})
            for point, summary in summaries
        ],
    }
    (options.output / SUMMARY).write_text(json.dumps(content, indent=2) + "\n")
    for point, summary in summaries:
        print(render(point, summary, f"first {window} tokens"))
    for point, found in sorts.items():
        print(render(point, found, f"share of {options.generate} answers a prompt"))
    if options.generate:
        questions = {(row["pair_id"], row["direction"]): row["prompt"][-1]["content"] for row in rows}
        samples.write_page(options.output / PAGE, f"Answers of {points[-1].run}", _of(written, points[-1]), questions)
        print(f"to read: {options.output / PAGE}; all: {samples.write(options.output, written)}")
    for name in SETS:
        if len(summaries) > 1 and (said := displacement(summaries[0][1].get(name, {}), summaries[-1][1].get(name, {}))):
            print(f"{name}: {said}")
    print(f"written: {options.output / SCORES}, {options.output / SUMMARY}")


def _of(records: Sequence[Record], point: Point) -> list[Record]:
    return [record for record in records if (record["run"], record["step"]) == (point.run, point.step)]


def _plain(summary: dict[str, dict[str, Estimate]]) -> dict[str, Any]:
    return {name: {measure: asdict(estimate) for measure, estimate in measures.items()} for name, measures in summary.items()}


def render(point: Point, summary: dict[str, dict[str, Estimate]], what: str) -> str:
    """A model's summary as lines: a measure a line, the sets beside each other, each with its interval."""
    name = point.run if point.step is None else f"{point.run}, step {point.step}"
    lines = [f"{name} ({what}; 95 % intervals over pairs)", f"  {'':16}" + "".join(f"{column:>28}" for column in SETS)]
    measures = list(dict.fromkeys(measure for found in summary.values() for measure in found))
    for measure in measures:
        cells = []
        for column in SETS:
            estimate = summary.get(column, {}).get(measure)
            cells.append(f"{estimate.value:8.3f} [{estimate.low:7.3f}, {estimate.high:7.3f}]" if estimate else "–")
        lines.append(f"  {measure:16}" + "".join(f"{cell:>28}" for cell in cells))
    return "\n".join(lines)
