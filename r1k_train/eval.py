"""Evaluate a model on the r1k tasks with lm-evaluation-harness: `python -m r1k_train eval MODEL --out DIR`.

The folder that it writes, which is what `report` reads:

- `evaluation.json`: `format` 1; `model` (what was evaluated and what its run folder says of it: `base`, `size`, `steps`);
  `settings` (everything that decides a number); `versions`; `data`: task -> the Hub's `dataset` and `revision` (a commit),
  or `file` and `sha256`, and `rows_sha256` of what was asked; `tasks`: name -> `rows`, `samples`, `accuracy`, `maj`, `pass`,
  `unreadable`, `unfinished`, `truncated`, `tokens` (mean per response); `judge` where one was asked.
- `samples/TASK.jsonl`: a line per row: `id`, `gold`, and `responses`, each with `text`, `answer` (null: unreadable),
  `correct`, `finished`, `group`, `tokens`, `finish`, and `judged` where a judge was asked.
- `answers.sqlite`: what the model has said. The same command resumes from it and asks for nothing twice.
- `judge.sqlite`, `disagreements.jsonl`: the judge's replies, and where it and math-verify differ.
"""

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from r1k_train.lineage import LineageError, lineage

TASKS = ("r1k_aime24", "r1k_math500", "r1k_gpqa_diamond")
BANK = ("r1k_bank_forward", "r1k_bank_reverse")
GROUPS = {"r1k": TASKS, "r1k_bank": BANK}
ROOM = 8_192
"""Tokens for the prompt beside the new ones; GPQA's longest has under 4,000."""
PACKAGES = ("lm-eval", "math-verify", "transformers", "torch", "vllm")


class EvalError(Exception):
    """What stops an evaluation, in a sentence, with its exit status."""

    def __init__(self, sentence: str, status: int = 2) -> None:
        super().__init__(sentence)
        self.status = status


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "r1k_train eval", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("model", help="a model's folder (an adapter is merged first) or Hub id; with --base-url the name that the server knows")
    add("--out", type=Path, required=True, metavar="DIR", help="where the evaluation goes; one that is there is resumed")
    add("--tasks", default="r1k", help="r1k, r1k_bank, or names with commas between (default: r1k)")
    add("--file", action="append", default=[], metavar="TASK=FILE", help="a local file instead of the Hub's dataset")
    add("--backend", choices=("hf", "vllm"), default="hf")
    add("--base-url", metavar="URL", help="an OpenAI-compatible server, as http://127.0.0.1:8000/v1, instead of a backend")
    add("--tokenizer", metavar="ID", help="counts tokens where a server does not say")
    add("--concurrency", type=int, default=16, help="requests in flight at a server or judge")
    add("--batch-size", type=int, default=1, help="hf alone: rows in a batch")
    add("--device", help="hf alone: cuda, cpu, ... (default: what lm-eval finds)")
    add("--dtype", default="auto", help="hf and vllm")
    add("--tensor-parallel", type=int, default=1, help="vllm alone: GPUs that share the model")
    add("--samples", type=int, default=1, metavar="K", help="responses to each problem: pass@1, avg@k and maj@k of them")
    add("--temperature", type=float, default=0.0, help="0, greedy, is the paper's harness's")
    add("--top-p", type=float, default=1.0)
    add("--max-new-tokens", type=int, default=32_768)
    add("--reasoning-end", default="</think>", help="what ends the reasoning; s1's separators are known besides")
    add("--system", metavar="TEXT", help="a system message (default: what the chat template says)")
    add("--seed", type=int, default=0)
    add("--limit", type=int, metavar="N", help="the first N rows of each task, to try things out")
    add("--run", type=Path, metavar="FILE", help="the run's record, where it is not run.json in or above MODEL")
    add(
        "--judge",
        metavar="MODEL",
        help="ask a judge besides: gpt-4o-mini, or what --judge-base-url serves; needs OPENAI_API_KEY",
    )
    add("--judge-base-url", default="https://api.openai.com/v1", metavar="URL")
    add("--s1-compatible", action="store_true", help="judge as s1's fork of the harness does: for parity alone, and labelled")
    return parser


def main(words: list[str]) -> int:
    given = make_parser().parse_args(words)
    try:
        evaluate(given)
    except (EvalError, LineageError) as error:
        print(f"r1k_train eval: {error}", file=sys.stderr)
        return error.status if isinstance(error, EvalError) else 2
    return 0


def evaluate(given: argparse.Namespace) -> None:
    """One evaluation from options to folder."""
    tasks = task_names(given.tasks)
    settings = settings_of(given, tasks)
    place_files(given.file)
    os.environ["R1K_REASONING_END"] = given.reasoning_end
    given.out.mkdir(parents=True, exist_ok=True)
    same_settings(given.out, settings)
    record = {"format": 1, "model": lineage(given.model, given.run), "settings": settings, "versions": versions()}
    rows = answered(given, tasks)
    judged = {"judge": ask_judge(given, rows)} if given.judge else {}
    (given.out / "samples").mkdir(exist_ok=True)
    for task, items in rows.items():
        lines = ({key: value for key, value in item.items() if key != "prompt"} for item in items)
        write(given.out / "samples" / f"{task}.jsonl", "".join(json.dumps(line, ensure_ascii=True) + "\n" for line in lines))
    results = {task: totals(items) for task, items in rows.items()}
    data = {task: asked(task, items) for task, items in rows.items()}
    file = given.out / "evaluation.json"
    earlier = json.loads(file.read_text()) if file.exists() else {}  # of other tasks, under the same settings
    both = {"data": earlier.get("data", {}) | data, "tasks": earlier.get("tasks", {}) | results}
    judge = {"judge": earlier["judge"]} if "judge" in earlier else {}
    write(file, json.dumps(record | both | judge | judged, indent=2) + "\n")
    show(results, given.out)


def task_names(named: str) -> list[str]:
    names = [name for word in named.split(",") for name in GROUPS.get(word.strip(), (word.strip(),))]
    if unknown := [name for name in names if name not in TASKS + BANK]:
        raise EvalError(f"there is no task {unknown[0]!r}: there are r1k, r1k_bank, {', '.join(TASKS + BANK)}")
    return names


def settings_of(given: argparse.Namespace, tasks: list[str]) -> dict[str, Any]:
    """What decides the numbers; a folder holds answers to one set of these only."""
    if given.samples < 1 or given.max_new_tokens < 1 or given.batch_size < 1 or given.concurrency < 1:
        raise EvalError("--samples, --max-new-tokens, --batch-size and --concurrency count from 1")
    if given.samples > 1 and given.temperature == 0:
        raise EvalError(
            f"{given.samples} greedy responses are one response: --temperature 0.6 --top-p 0.95 draws different ones"
        )
    if given.s1_compatible and not given.judge:
        raise EvalError("--s1-compatible is a way to judge: add --judge gpt-4o-mini")
    names = ("model", "samples", "temperature", "top_p", "max_new_tokens", "reasoning_end", "system", "seed", "limit", "dtype")
    settings = {name: getattr(given, name) for name in names}
    backend = "chat" if given.base_url else given.backend
    batch = {"batch_size": given.batch_size} if backend == "hf" else {}
    files = dict(file.partition("=")[::2] for file in given.file)
    weights = {} if given.base_url else {"weights": weights_of(given.model)}
    return {"backend": backend, "tasks": tasks, "files": files} | batch | weights | settings


def weights_of(model: str) -> str | None:
    """What tells a local model from another one trained into the same folder: names, sizes and times of its files."""
    kinds = (".safetensors", ".bin", "config.json")
    files = sorted(file for file in Path(model).glob("*") if file.name.endswith(kinds)) if Path(model).is_dir() else []
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16] if facts else None


def same_settings(out: Path, settings: dict[str, Any]) -> None:
    """Refuse to mix: the folder's settings are these, or it has none yet. Other tasks come to those that it has."""
    file = out / "settings.json"
    if file.exists():
        old = json.loads(file.read_text())
        differ = [name for name in settings if name not in ("tasks", "files") and old.get(name) != settings[name]]
        if differ:
            changes = ", ".join(f"{name} {old.get(name)!r} -> {settings[name]!r}" for name in differ)
            raise EvalError(f"{out} holds an evaluation with other settings ({changes}): give --out another folder")
    write(file, json.dumps(settings, indent=2) + "\n")


def place_files(files: list[str]) -> None:
    """Name each local file in the variable that its task reads."""
    for word in files:
        task, sign, file = word.partition("=")
        if not sign or (task not in TASKS and task != "r1k_bank"):
            raise EvalError(f"--file {word}: say TASK=FILE with TASK one of {', '.join(TASKS)}, r1k_bank")
        if not Path(file).exists():
            raise EvalError(f"--file {word}: there is no {file}")
        os.environ[task.upper()] = str(Path(file).resolve())


def asked(task: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    """Which rows were evaluated: whence they came, how many, and the SHA-256 of their ids and golds in order."""
    from r1k_train.tasks.functions import origin

    content = "".join(f"{item['id']} {item['gold']}\n" for item in items)
    return origin(task) | {"rows": len(items), "rows_sha256": hashlib.sha256(content.encode()).hexdigest()}


def versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in PACKAGES if importlib.util.find_spec(name.replace("-", "_"))}
    return {"python": sys.version.split()[0]} | found


def write(file: Path, text: str) -> None:
    """Whole or not at all."""
    beside = file.with_name(f"{file.name}.new")
    beside.write_text(text)
    beside.replace(file)


# -- answers -------------------------------------------------------------------------------------------------------------


def answered(given: argparse.Namespace, tasks: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Every task's rows with their scored responses, from the file or the model."""
    try:
        from aiohttp import ClientError
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager

        from r1k_train.answers import Answers, Resumable
        from r1k_train.tasks import FOLDER
        from r1k_train.tasks.functions import DataMissing
    except ModuleNotFoundError as error:
        raise EvalError(f"{error.name} is not installed: pip install 'r1k[train,eval]'") from error
    if given.base_url:
        reach(given.base_url)
    answers = Answers(given.out / "answers.sqlite")
    try:
        model = Resumable(
            load(given), answers, given.seed, None if given.base_url or given.backend == "vllm" else given.batch_size
        )
        manager = TaskManager(include_path=str(FOLDER), include_defaults=False)
        loaded = manager.load(tasks)["tasks"]
        for task in loaded.values():
            task.config.repeats = given.samples
        results = simple_evaluate(
            model, tasks=list(loaded.values()), task_manager=manager, limit=given.limit,
            gen_kwargs=generation(given), apply_chat_template=True, system_instruction=given.system, bootstrap_iters=0,
            random_seed=given.seed, numpy_random_seed=given.seed, torch_random_seed=given.seed, fewshot_random_seed=given.seed,
        )  # fmt: skip
        return {
            task: [scored(item, answers) for item in sorted(results["samples"][task], key=lambda item: item["doc_id"])]
            for task in tasks
        }
    except DataMissing as error:
        raise EvalError(str(error)) from error
    except (ClientError, TimeoutError) as error:
        raise unanswered(given.base_url, error) from error
    finally:
        answers.close()


def reach(base_url: str) -> None:
    """Say at once that nothing listens there, before tasks are loaded and requests are tried again."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EvalError(f"--base-url {base_url}: say it as http://127.0.0.1:8000/v1")
    try:
        socket.create_connection((parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]), 30).close()
    except OSError as error:
        raise unanswered(base_url, error) from error


def unanswered(base_url: str, error: Exception) -> EvalError:
    reason = f"the server at {base_url} does not answer ({error or type(error).__name__})"
    return EvalError(f"{reason}. Answers so far are kept: the same command asks for the rest", 7)


def generation(given: argparse.Namespace) -> dict[str, Any]:
    sampling = {"do_sample": True, "temperature": given.temperature, "top_p": given.top_p}
    return {"max_gen_toks": given.max_new_tokens} | (sampling if given.temperature > 0 else {})


def load(given: argparse.Namespace) -> Any:
    """The lm-eval model, with lengths that leave room for every new token beside the prompt."""
    if given.base_url:
        from r1k_train.answers import Chat

        url = f"{given.base_url.rstrip('/')}/chat/completions"
        named = (
            {"tokenizer_backend": "huggingface", "tokenizer": given.tokenizer, "tokenized_requests": False}
            if given.tokenizer
            else {}
        )
        return Chat(
            model=given.model, base_url=url, num_concurrent=max(given.concurrency, 2), max_length=given.max_new_tokens + ROOM,
            timeout=6 * 3600, max_retries=4, **named,
        )  # fmt: skip
    folder = merged(given.model, given.out)
    length = given.max_new_tokens + ROOM
    if given.backend == "vllm":
        from lm_eval.api.registry import get_model

        os.environ.setdefault("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "1")  # 32,768 new ones beside a prompt pass Qwen2.5's own limit
        return get_model("vllm")(
            pretrained=folder, dtype=given.dtype, max_model_len=length, tensor_parallel_size=given.tensor_parallel,
            seed=given.seed, batch_size="auto",
        )  # fmt: skip
    from r1k_train.answers import Local

    device = {"device": given.device} if given.device else {}
    return Local(pretrained=folder, dtype=given.dtype, max_length=length, batch_size=given.batch_size, **device)


def merged(model: str, out: Path) -> str:
    """The model's folder; of an adapter, the folder of the model that it was merged into."""
    if not (Path(model) / "adapter_config.json").exists():
        return model
    target = out / "merged"
    if (target / "config.json").exists():
        return str(target)
    from r1k_train import merge  # with torch

    status = merge.main([model, str(target)])
    if status:
        raise EvalError(f"{model} is an adapter that could not be merged", status)
    return str(target)


def scored(item: dict[str, Any], answers: Any) -> dict[str, Any]:
    """One row as it is written: lm-eval's sample, each response with what was read in it and what the host said of it."""
    from lm_eval.api.instance import Instance

    from r1k_train.answers import answer_key
    from r1k_train.tasks.functions import score

    row, texts = item["doc"], item["resps"][0]
    key = answer_key(Instance("generate_until", row, tuple(item["arguments"][0]), 0))
    kept = [answers.get(key, number) for number in range(len(texts))]
    responses = [
        {"text": text} | one | {"tokens": said.tokens if said else None, "finish": said.finish if said else ""}
        for text, one, said in zip(texts, score(row, texts), kept, strict=True)
    ]
    return {"id": row["id"], "gold": row["gold"], "prompt": row["prompt"], "responses": responses}


# -- the judge -----------------------------------------------------------------------------------------------------------


def ask_judge(given: argparse.Namespace, rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Put a `judged` beside every `correct`, and write down where they differ."""
    from r1k_train.judge import Case, JudgeError, judge
    from r1k_train.reading import split

    asked = [(task, item, response) for task, items in rows.items() for item in items for response in item["responses"]]
    cases = []
    for task, item, response in asked:
        response["judged"] = False
        if given.s1_compatible and task == "r1k_gpqa_diamond":  # s1's fork reads the letter itself, an unreadable one as "A"
            response["judged"] = (response["answer"] or "A") == item["gold"]
        elif answer := split(response["text"], given.reasoning_end).answer:
            cases.append((response, Case(item["prompt"], item["gold"], answer)))
    try:
        verdicts = judge(
            [case for _, case in cases], given.out / "judge.sqlite", given.judge, given.judge_base_url,
            given.concurrency, given.s1_compatible,
        )  # fmt: skip
    except JudgeError as error:
        raise EvalError(f"{error}. Type the same command again to go on", 7) from error
    for (response, _), verdict in zip(cases, verdicts, strict=True):
        response["judged"] = verdict
    differ = [
        {
            "task": task,
            "id": item["id"],
            "gold": item["gold"],
            "answer": response["answer"],
            "math-verify": response["correct"],
            "judge": response["judged"],
        }
        for task, item, response in asked
        if response["judged"] != response["correct"]
    ]
    write(given.out / "disagreements.jsonl", "".join(json.dumps(line) + "\n" for line in differ))
    return {
        "model": given.judge,
        "mode": "s1-compatible" if given.s1_compatible else "strict",
        "cases": len(cases),
        "disagreements": len(differ),
    }


# -- totals --------------------------------------------------------------------------------------------------------------


def totals(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A task's figures: means over its rows of what each row's responses give."""
    from r1k_train.tasks.functions import summary

    rows = [summary(item["responses"]) for item in items]
    responses = [response for item in items for response in item["responses"]]
    counted = [response["tokens"] for response in responses if response["tokens"] is not None]
    judged = [response["judged"] for response in responses if "judged" in response]
    means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    return {
        "rows": len(items),
        "samples": len(items[0]["responses"]),
        **means,
        "truncated": sum(response["finish"] == "length" for response in responses) / len(responses),
        "tokens": sum(counted) / len(counted) if counted else None,
    } | ({"judged": sum(judged) / len(judged)} if judged else {})


def show(results: dict[str, dict[str, Any]], out: Path) -> None:
    for task, figures in results.items():
        several = f", maj@{figures['samples']} {figures['maj']:.1%}, pass@{figures['samples']} {figures['pass']:.1%}"
        print(  # the result
            f"{task:18} {figures['accuracy']:6.1%} of {figures['rows']}{several if figures['samples'] > 1 else ''}; unreadable"
            f" {figures['unreadable']:.1%}, truncated {figures['truncated']:.1%}"
            + (f"; judge {figures['judged']:.1%}" if "judged" in figures else "")
        )
    print(f"written to {out}: python -m r1k_train report {out}")
