"""The probe's scoring beside the plain way: `python benchmarks/probe.py` (about three minutes, one thread).

The plain way is one forward pass per sequence, whole logits, log-softmax in float32. Each measurement runs in a process of its
own, since the peak of resident memory is a process's; memory is counted from when the model is loaded. The model is small and
its vocabulary Qwen2.5's, so that the head is what costs.

    memory   one prompt of 120 tokens, responses of 1,000 to 4,000 tokens of which the first 1,000 are scored
    time     rows of 1,120 tokens, one at a time
    sets     a probe set: pairs in both directions with both responses, on T_f, T_r and T_m; responses of 150 to 1,200 tokens

`--vocabulary`, `--hidden` and `--rows` make it smaller. It ends with status 1 where numbers differ or a bound does not hold.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from r1k_train.scoring import Scorable, TokenScores, score

VOCABULARY = 151_936
"""Qwen2.5's."""
WINDOW, PROMPT = 1000, 120
SIZES = (1000, 2000, 4000)
"""Tokens of the responses whose first WINDOW are scored."""
MOST_MEMORY, MOST_TIME, FLAT = 0.2, 1.2, 0.02
TOLERANCE = 1e-4
"""Nats: float32, one sequence a pass or many."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--rows", type=int, default=2, help="rows of 1,120 tokens that are timed")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of the probe set")
    parser.add_argument("--tasks", nargs="+", choices=("memory", "time", "sets"), default=["memory", "time", "sets"])
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.measure:
        way, task = options.measure.split(":")
        print(json.dumps(measure(way, task, options)))
        return 0
    return report(options)


# -- in a process of its own ---------------------------------------------------------------------------------------


def measure(way: str, task: str, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds, bytes of memory beyond the loaded model's, and the scores, of one way at one task."""
    model: Any = make_model(options)
    sequences = tasks(options)[task]
    warm_up(model, way)
    before, begun = _peak(), time.process_time()
    if way == "plain":
        found = [plain(model, sequence) for sequence in sequences]
    else:
        found = score(model, sequences, tokens_at_once=1 if way == "alone" else 8192)
    seconds, after = time.process_time() - begun, _peak()
    values = [[float(part.sum()) for part in (one.logp, one.greedy, one.entropy)] for one in found]
    return {"seconds": seconds, "bytes": after - before, "base": before, "rows": len(sequences), "values": values}


def make_model(options: argparse.Namespace) -> Any:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=options.vocabulary, hidden_size=options.hidden, intermediate_size=4 * options.hidden, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=8192, initializer_range=0.1,
        tie_word_embeddings=True,
    )  # fmt: skip
    model: Any = Qwen2ForCausalLM(config)
    return model.eval()


def tasks(options: argparse.Namespace) -> dict[str, list[Scorable]]:
    draw = random.Random(0)

    def text(size: int) -> tuple[int, ...]:
        return tuple(draw.randrange(options.vocabulary) for _ in range(size))

    lengths = {f"memory-{size}": [Scorable(text(PROMPT), text(size), ((0, WINDOW),))] for size in SIZES}
    rows = [Scorable(text(PROMPT), text(WINDOW), ((0, WINDOW),)) for _ in range(options.rows)]
    sets = []
    for _ in range(options.pairs):
        prompts = [text(draw.randrange(40, 160)) for _ in range(2)]
        responses = [text(draw.randrange(150, 1200)) for _ in range(2)]
        sets.append([Scorable(prompt, response, ((0, WINDOW),)) for prompt in prompts for response in responses])
    forward, reverse = ([row for four in sets for row in four[at : at + 2]] for at in (0, 2))
    return {**lengths, "time": rows, "sets": [*forward, *reverse, *forward, *reverse]}


def plain(model: Any, sequence: Scorable) -> TokenScores:
    """One forward pass over the whole sequence, all logits, then what is wanted of them."""
    ids = [*sequence.prompt, *sequence.response]
    with torch.no_grad():
        logits: Tensor = model(input_ids=torch.tensor([ids])).logits[0, len(sequence.prompt) - 1 : -1].float()
    logps = logits.log_softmax(dim=-1)
    logp = logps.gather(1, torch.tensor(sequence.response)[:, None])[:, 0]
    entropy = -(logps.exp() * logps).sum(dim=-1)
    places = sequence.scored
    return TokenScores(logp[places], logps.max(dim=-1).values[places], entropy[places])


def warm_up(model: Any, way: str) -> None:
    """Threads, kernels and allocators, on eight tokens."""
    sequence = Scorable((1, 2, 3, 4), (5, 6, 7, 8))
    _ = plain(model, sequence) if way == "plain" else score(model, [sequence])


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# -- beside each other ---------------------------------------------------------------------------------------------


def report(options: argparse.Namespace) -> int:
    print(f"vocabulary {options.vocabulary:,}, hidden {options.hidden}, float32, one thread, torch {torch.__version__}")
    parts = {"memory": memory, "time": time_a_row, "sets": sets}
    holds = [parts[name](options) for name in options.tasks]
    return 0 if all(holds) else 1


def memory(options: argparse.Namespace) -> bool:
    taken: dict[tuple[str, int], int] = {}
    apart = 0.0
    for size in SIZES:
        plainly, ours = (_apart(way, f"memory-{size}", options) for way in ("plain", "alone"))
        taken["plain", size], taken["alone", size] = plainly["bytes"], ours["bytes"]
        apart = max(apart, _furthest(plainly, ours))
        one, other = plainly["bytes"] / 2**20, ours["bytes"] / 2**20
        said = f"plain {one:,.0f} MiB, probe {other:,.0f} MiB, {other / one:.3f} of it"
        print(f"memory beyond the model, response of {size:,}: {said}", flush=True)
    grown = (taken["alone", SIZES[-1]] - taken["alone", SIZES[0]]) / taken["plain", SIZES[0]]
    share = taken["alone", SIZES[0]] / taken["plain", SIZES[0]]
    return all([
        _same(apart),
        _bound(f"peak memory {share:.3f} of the plain way's", share, MOST_MEMORY),
        _bound(f"beyond the window it grows by {grown:.3f} of that", grown, FLAT),
    ])  # fmt: skip


def time_a_row(options: argparse.Namespace) -> bool:
    plainly, ours = (_apart(way, "time", options) for way in ("plain", "alone"))
    each = [found["seconds"] / found["rows"] for found in (plainly, ours)]
    print(f"CPU time a row of {PROMPT + WINDOW:,} tokens: plain {each[0]:.2f} s, probe {each[1]:.2f} s", flush=True)
    return all([
        _same(_furthest(plainly, ours)),
        _bound(f"time a row {each[1] / each[0]:.2f} of the plain way's", each[1] / each[0], MOST_TIME),
    ])  # fmt: skip


def sets(options: argparse.Namespace) -> bool:
    found = {way: _apart(way, "sets", options) for way in ("plain", "alone", "batched")}
    plainly, once, batched = (one["seconds"] for one in found.values())
    print(
        f"a probe set on T_f, T_r and T_m, {found['plain']['rows']} sequences with repeats:"
        f" plain {plainly:.1f} s, each once {once:.1f} s, and batched {batched:.1f} s:"
        f" {plainly / once:.2f} x by scoring once, {once / batched:.2f} x by batches, {plainly / batched:.2f} x together",
        flush=True,
    )
    return _same(max(_furthest(found["plain"], found[way]) for way in ("alone", "batched")))


def _same(apart: float) -> bool:
    return _bound(f"numbers at most {apart:.1e} nats a token apart", apart, TOLERANCE)


def _bound(said: str, value: float, most: float) -> bool:
    print(f"  {'holds' if value <= most else 'DOES NOT HOLD'}: {said}; at most {most:g}", flush=True)
    return value <= most


def _apart(way: str, task: str, options: argparse.Namespace) -> dict[str, Any]:
    words = [f"--{name}={getattr(options, name)}" for name in ("vocabulary", "hidden", "rows", "pairs")]
    command = [sys.executable, __file__, f"--measure={way}:{task}", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _furthest(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest difference of a sequence's sums, by token of its window."""
    pairs: Iterator[tuple[list[float], list[float]]] = zip(one["values"], other["values"], strict=True)
    return max(abs(a - b) / WINDOW for left, right in pairs for a, b in zip(left, right, strict=True))


if __name__ == "__main__":
    raise SystemExit(main())
