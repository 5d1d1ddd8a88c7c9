"""`r1k_train eval` end to end: a tiny trained model, from its folder and through transformers' own server."""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="pip install '.[train,eval]'")

from r1k_train import eval as evaluation
from r1k_train.eval import task_names
from r1k_train.lineage import LineageError, lineage
from r1k_train.tasks import BANK
from tests.tiny_model import make_tiny, record

ROWS = [json.loads(line) for line in BANK.read_text().splitlines()]
SHORT = sorted(ROWS, key=lambda row: len(row["question"]))
FEW = [row for way in ("forward", "reverse") for row in [row for row in SHORT if row["direction"] == way][:2]]
TAUGHT = [f"so \\boxed{{{row['final_answer'] if place % 2 else 999}}}" for place, row in enumerate(FEW)]
"""Every other answer is taught wrong, so that the accuracy is neither 0 nor 1."""
QUICK = ["--tasks", "r1k_bank", "--max-new-tokens", "24"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that has learnt the answers above by heart."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_tiny(tmp_path_factory.mktemp("run") / "tiny-0.1B", hidden=64)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    learner: Any = AutoModelForCausalLM.from_pretrained(folder)
    turns = [[{"role": "user", "content": row["question"]}] for row in FEW]
    prompts = [tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True) for turn in turns]
    rows = [
        (tokenizer(prompt).input_ids, tokenizer(f"{text}<|im_end|>").input_ids)
        for prompt, text in zip(prompts, TAUGHT, strict=True)
    ]
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    padded = [(p + a + [0] * (longest - len(p + a)), [-100] * len(p) + a + [-100] * (longest - len(p + a))) for p, a in rows]
    batch, labels = torch.tensor([ids for ids, _ in padded]), torch.tensor([goal for _, goal in padded])
    optimizer = torch.optim.AdamW(learner.parameters(), lr=5e-3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more are slower on matrices this small
    for _ in range(300):
        loss = learner(input_ids=batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss < 0.03:
            break
    torch.set_num_threads(threads)
    assert loss < 0.03
    learner.save_pretrained(folder)
    return record(folder.parent, dataset={"config": "reverse"}, base_model="Qwen/Tiny-0.1B") / "tiny-0.1B"


@pytest.fixture
def bank(tmp_path: Path) -> list[str]:
    file = tmp_path / "few.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in FEW))
    return ["--file", f"r1k_bank={file}"]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("R1K_BANK", "R1K_MATH500", "R1K_AIME24", "R1K_REASONING_END"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def run(*words: object) -> int:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("default")  # those of lm-eval and what it loads are not ours
        return evaluation.main([str(word) for word in words])


def read(out: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((out / "evaluation.json").read_text())
    return read


def samples(out: Path, task: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "samples" / f"{task}.jsonl").read_text().splitlines()]


def directly_right(model: Path, rows: list[dict[str, str]]) -> int:
    """How many rows the model answers rightly, counted with transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    learner: Any = AutoModelForCausalLM.from_pretrained(model)
    right = 0
    for row in rows:
        turn = [{"role": "user", "content": row["question"]}]
        ids = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=True).input_ids
        with torch.no_grad():
            made = learner.generate(ids, max_new_tokens=24, do_sample=False)
        right += f"\\boxed{{{row['final_answer']}}}" in tokenizer.decode(made[0, ids.shape[1] :])
    return right


def test_it_scores_what_a_direct_count_says(model: Path, bank: list[str], tmp_path: Path) -> None:
    assert run(model, "--out", tmp_path / "out", *QUICK, *bank, "--device", "cpu", "--batch-size", "3") == 0
    said = read(tmp_path / "out")
    for direction in ("forward", "reverse"):
        rows = [row for row in FEW if row["direction"] == direction]
        figures = said["tasks"][f"r1k_bank_{direction}"]
        assert figures["rows"] == 2
        assert figures["accuracy"] == directly_right(model, rows) / 2
    assert 0 < said["tasks"]["r1k_bank_forward"]["accuracy"] < 1
    assert said["data"]["r1k_bank_forward"]["rows"] == 2
    assert said["data"]["r1k_bank_forward"]["file"] == "few.jsonl"
    assert said["model"]["size"] == "0.1B"
    assert said["model"]["steps"] == [{"method": "sft", "dataset_config": "reverse", "base_model": "Qwen/Tiny-0.1B"}]
    first = samples(tmp_path / "out", "r1k_bank_forward")[0]["responses"][0]
    assert first["finish"] == "stop"
    assert first["tokens"] == len(first["text"].encode()) + 1  # a byte a token, and the end


def test_the_models_own_penalties_are_left_out(model: Path, tmp_path: Path) -> None:
    import shutil

    from r1k_train.answers import Local

    shutil.copytree(model, tmp_path / "m")
    own = json.loads((tmp_path / "m" / "generation_config.json").read_text())
    (tmp_path / "m" / "generation_config.json").write_text(json.dumps(own | {"repetition_penalty": 1.05, "top_k": 20}))
    settings = Local(pretrained=str(tmp_path / "m"), device="cpu").model.generation_config
    assert settings.repetition_penalty in (None, 1.0)
    assert settings.top_k != 20
    assert settings.eos_token_id == own["eos_token_id"]


def test_truncated_answers_are_counted(model: Path, bank: list[str], tmp_path: Path) -> None:
    run(model, "--out", tmp_path / "out", "--tasks", "r1k_bank_forward", "--max-new-tokens", "4", *bank, "--device", "cpu")
    figures = read(tmp_path / "out")["tasks"]["r1k_bank_forward"]
    assert (figures["truncated"], figures["unreadable"], figures["tokens"], figures["accuracy"]) == (1, 1, 4, 0)


SAMPLED = ["--samples", "3", "--temperature", "0.9", "--top-p", "0.95", "--device", "cpu", "--batch-size", "2"]


def test_same_seed_same_numbers_and_nothing_is_asked_twice(model: Path, bank: list[str], tmp_path: Path) -> None:
    for out in ("one", "two"):
        assert run(model, "--out", tmp_path / out, *QUICK, *bank, *SAMPLED) == 0
    for task in ("r1k_bank_forward", "r1k_bank_reverse"):
        assert samples(tmp_path / "one", task) == samples(tmp_path / "two", task)
    drawn = [response["text"] for item in samples(tmp_path / "one", "r1k_bank_forward") for response in item["responses"]]
    assert len(drawn) == 6
    with contextlib.closing(sqlite3.connect(tmp_path / "two" / "answers.sqlite")) as kept:  # as a kill leaves it: some answers
        kept.execute("DELETE FROM answer WHERE rowid % 3 = 0")
        kept.commit()
        before = {row[:2]: row for row in kept.execute("SELECT * FROM answer")}
    assert run(model, "--out", tmp_path / "two", *QUICK, *bank, *SAMPLED) == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "two" / "answers.sqlite")) as kept:
        after = {row[:2]: row for row in kept.execute("SELECT * FROM answer")}
    assert len(before) < len(after) == 12
    assert {key: after[key] for key in before} == before
    for task in ("r1k_bank_forward", "r1k_bank_reverse"):
        assert samples(tmp_path / "one", task) == samples(tmp_path / "two", task)


def test_other_tasks_join_and_other_settings_are_refused(
    model: Path, bank: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [model, "--out", tmp_path / "out", *bank, "--device", "cpu", "--limit", "1"]
    for direction in ("forward", "reverse"):
        assert run(*words, "--tasks", f"r1k_bank_{direction}", "--max-new-tokens", "4") == 0
    assert list(read(tmp_path / "out")["tasks"]) == list(read(tmp_path / "out")["data"])
    assert list(read(tmp_path / "out")["tasks"]) == ["r1k_bank_forward", "r1k_bank_reverse"]
    assert run(*words, "--tasks", "r1k_bank_forward", "--max-new-tokens", "5") == 2
    assert "max_new_tokens 4 -> 5" in capsys.readouterr().err
    (model / "model.safetensors").touch()  # as if it had been trained again
    assert run(*words, "--tasks", "r1k_bank_forward", "--max-new-tokens", "4") == 2
    assert "other settings (weights " in capsys.readouterr().err


# -- a server ---------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[str]:
    """transformers' own server on the tiny model."""
    port = free_port()
    words = ["serve", str(model), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--log-level", "error"]
    command = Path(sys.executable).with_name("transformers")
    with (model.parent / "server.log").open("w") as log:
        process = subprocess.Popen([str(command), *words], stdout=log, stderr=log, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
                if answer.status == 200:
                    break
            assert process.poll() is None, (model.parent / "server.log").read_text()
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


def test_the_benchmarks_through_a_server_as_from_the_folder(model: Path, server: str, tmp_path: Path) -> None:
    words = ["--tasks", "r1k_math500,r1k_aime24", "--max-new-tokens", "24"]
    for name, rows in (("math500", FEW[:2]), ("aime24", FEW[2:])):
        items = [{"problem": row["question"], "answer": row["final_answer"]} for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
        words += ["--file", f"r1k_{name}={tmp_path}/{name}.jsonl"]
    assert run(model, "--base-url", server, "--out", tmp_path / "served", *words, "--concurrency", "2") == 0
    assert run(model, "--out", tmp_path / "local", *words, "--device", "cpu", "--batch-size", "2") == 0
    served, local = read(tmp_path / "served"), read(tmp_path / "local")
    assert served["data"] == local["data"]
    for task in ("r1k_math500", "r1k_aime24"):
        assert served["tasks"][task]["accuracy"] == local["tasks"][task]["accuracy"] == 0.5
        texts = [[item["responses"][0]["text"] for item in samples(tmp_path / out, task)] for out in ("served", "local")]
        assert texts[0] == texts[1]
    first = samples(tmp_path / "served", "r1k_math500")[0]["responses"][0]
    assert first["finish"] == "stop"
    assert first["tokens"] is not None


@pytest.mark.slow  # it reads the thousands of tasks that lm-eval ships
def test_lm_evals_own_command_through_a_server(model: Path, server: str, bank: list[str], tmp_path: Path) -> None:
    script = "from lm_eval.__main__ import cli_evaluate; cli_evaluate()"
    include = subprocess.run(
        [sys.executable, "-m", "r1k_train", "tasks"], check=True, capture_output=True, text=True
    ).stdout.strip()
    words = [
        "run",
        "--include_path",
        include,
        "--tasks",
        "r1k_bank_forward",
        "--model",
        "local-chat-completions",
        "--apply_chat_template",
    ]
    words += [
        "--model_args",
        f"model={model},base_url={server}/chat/completions",
        "--gen_kwargs",
        "max_gen_toks=24",
        "--output_path",
        str(tmp_path / "raw"),
    ]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "R1K_BANK": bank[1].partition("=")[2]}
    subprocess.run([sys.executable, "-c", script, *words], check=True, capture_output=True, env=environment)
    [results] = (tmp_path / "raw").rglob("results_*.json")
    assert json.loads(results.read_text())["results"]["r1k_bank_forward"]["accuracy,all"] == 0.5


def test_a_killed_evaluation_goes_on(model: Path, server: str, bank: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [
        str(model),
        "--base-url",
        server,
        "--out",
        str(out),
        *QUICK,
        *bank,
        "--concurrency",
        "2",
        "--samples",
        "4",
        "--temperature",
        "0.7",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "r1k_train", "eval", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    while process.poll() is None and kept(out) < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = kept(out)
    assert before >= 3
    assert run(*words) == 0
    assert kept(out) == 16
    with contextlib.closing(sqlite3.connect(out / "answers.sqlite")) as file:
        rows = file.execute("SELECT rowid FROM answer ORDER BY rowid").fetchall()
    assert rows[-1][0] == 16  # a replaced row would have a new id: none was asked for twice


def kept(out: Path) -> int:
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"file:{out}/answers.sqlite?mode=ro", uri=True)) as file,
    ):
        count: int = file.execute("SELECT count(*) FROM answer").fetchone()[0]
        return count
    return 0


def test_an_unreachable_server_is_said(tmp_path: Path, bank: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    words = ["m", "--base-url", url, "--out", tmp_path / "out", "--tasks", "r1k_bank_forward", "--limit", "1", *bank]
    assert run(*words) == 7
    assert f"{url} does not answer" in capsys.readouterr().err
    words[2] = "127.0.0.1:8000"
    assert run(*words) == 2
    assert "say it as http://" in capsys.readouterr().err


# -- the run folder ----------------------------------------------------------------------------------------------------


def test_a_run_after_a_run(tmp_path: Path) -> None:
    sft, dpo = tmp_path / "Qwen-sft", tmp_path / "dpo"
    for folder in (sft, dpo / "final"):
        folder.mkdir(parents=True)
    record(sft, dataset={"config": "mixed"})
    (sft / "recipe.yaml").write_text("model_name_or_path: Qwen/Qwen2.5-14B-Instruct\n")
    record(dpo, dataset={"config": "preference"})
    (dpo / "recipe.yaml").write_text(f"model_name_or_path: {sft}\nbeta: 0.6\n")
    facts = lineage(str(dpo / "final"))
    assert (facts["base"], facts["size"]) == ("Qwen/Qwen2.5-14B-Instruct", "14B")
    assert [(step["method"], step["dataset_config"]) for step in facts["steps"]] == [("sft", "mixed"), ("dpo", "preference")]


def test_a_model_without_a_record(tmp_path: Path) -> None:
    assert lineage("Qwen/Qwen2.5-7B-Instruct") == {
        "name": "Qwen/Qwen2.5-7B-Instruct",
        "base": "Qwen/Qwen2.5-7B-Instruct",
        "size": "7B",
        "steps": [],
    }
    assert lineage(str(tmp_path))["size"] is None
    (tmp_path / "run.json").write_text("[")
    with pytest.raises(LineageError, match="is not a run's record"):
        lineage(str(tmp_path))


def test_what_can_not_be_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "out")]
    for words, sentence in (
        (["--tasks", "r2k"], "there is no task 'r2k'"),
        (["--samples", "4"], "4 greedy responses are one"),
        (["--samples", "0"], "count from 1"),
        (["--s1-compatible"], "add --judge"),
        (["--file", "r1k_math500"], "say TASK=FILE"),
        (["--file", f"r1k_math500={tmp_path}/none"], "there is no"),
    ):
        assert evaluation.main(["m", *out, *words]) == 2
        assert sentence in capsys.readouterr().err
    assert task_names("r1k") == ["r1k_aime24", "r1k_math500", "r1k_gpqa_diamond"]
