"""The probe command on a small model and hand-made pairs."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from r1k_train import data, probe
from r1k_train.published import PROMPT, published_records, published_score
from tests.small_model import save, small_model, small_tokenizer

PAIRS = {
    "a": (("What is 2 + 3?", "2 + 3 = 5", "5"), ("Which two numbers add to 5?", "2 and 3 do", "2 and 3")),
    "b": (("Double 4.", "4 + 4 = 8", "8"), ("Half of 8?", "8 / 2 = 4, so 4 it is", "4")),
    "c": (("Is 7 prime?", "no divisor", "yes"), ("Name a prime.", "7 has no divisor", "7")),
}


def preferences() -> list[dict[str, Any]]:
    rows = []
    for pair_id, sides in PAIRS.items():
        for direction, (own, other) in zip(("forward", "reverse"), (sides, sides[::-1]), strict=True):
            texts = [data.joined(reasoning, answer) for _, reasoning, answer in (own, other)]
            chosen, rejected = ([{"role": "assistant", "content": text}] for text in texts)
            prompt = [{"role": "user", "content": own[0]}]
            rows.append({"pair_id": pair_id, "direction": direction, "prompt": prompt, "chosen": chosen, "rejected": rejected})
    return rows


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model"))


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.Table.from_pylist(preferences()), path)
    return path


def run(model: Path, pairs: Path, output: Path, *more: str) -> dict[str, Any]:
    words = ["--model", str(model), "--dataset_name", str(pairs), "--output", str(output), "--dtype", "float32", *more]
    assert probe.main(words) == 0
    summary: dict[str, Any] = json.loads((output / probe.SUMMARY).read_text())
    return summary


def dense_alp(model: nn.Module, prompt: list[int], response: list[int]) -> float:
    logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1].detach().double()
    return float(logits.log_softmax(-1).gather(1, torch.tensor(response)[:, None]).mean())


@pytest.mark.parametrize("reasoning_format", ["s1", "think"])
def test_alp_is_that_of_a_plain_pass(reasoning_format: Any, model: Path, pairs: Path, tmp_path: Path) -> None:
    summary = run(model, pairs, tmp_path / "out", "--reasoning_format", reasoning_format)
    plain, tokenizer = small_model(), small_tokenizer()
    sums = {"chosen": 0.0, "rejected": 0.0}
    for row in preferences():
        for side in sums:
            text = data.response_text(row[side][0]["content"], reasoning_format)
            prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
            encoded = [tokenizer(part, add_special_tokens=False)["input_ids"] for part in (prompt, text + "<|im_end|>\n")]
            sums[side] += dense_alp(plain, *encoded) / 6
    found = summary["points"][0]["sets"]["T_m"]
    assert found["alp+"]["value"] == pytest.approx(sums["chosen"], abs=1e-5)
    assert found["alp-"]["value"] == pytest.approx(sums["rejected"], abs=1e-5)
    assert found["margin"]["rows"] == 6
    assert summary["digest"] == data.digest(data.load_rows(str(pairs)))


def test_the_answer_part_begins_after_the_reasoning(model: Path, pairs: Path, tmp_path: Path) -> None:
    run(model, pairs, tmp_path / "out")
    scores = pq.read_table(tmp_path / "out" / probe.SCORES).to_pylist()
    answers = {
        (row["pair_id"], row["direction"]): row
        for row in scores
        if row["window"] == "answer" and row["response"] == "preferred"
    }
    for (pair_id, direction), row in answers.items():
        answer = PAIRS[pair_id][direction == "reverse"][2]
        assert row["tokens"] == len(answer) + 2, "its bytes, the end mark and the template's line break"
    assert len(answers) == 6


def test_each_checkpoint_of_a_run_is_a_point(model: Path, pairs: Path, tmp_path: Path) -> None:
    for step, spread in ((2, 0.0), (10, 0.5)):
        adapted = get_peft_model(small_model(), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(weight, std=spread)
        adapted.save_pretrained(str(tmp_path / "run" / f"checkpoint-{step}"))
        (tmp_path / "run" / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps({"epoch": step / 2}))
    summary = run(model, pairs, tmp_path / "out", "--checkpoints", str(tmp_path / "run"))
    bare = run(model, pairs, tmp_path / "bare")
    first, last = summary["points"]
    assert [(point["run"], point["step"], point["epoch"]) for point in (first, last)] == [("run", 2, 1.0), ("run", 10, 5.0)]
    assert first["sets"] == bare["points"][0]["sets"], "an adapter of zeros changes nothing, and leaves nothing behind"
    assert last["sets"] != first["sets"]
    alone = run(model, pairs, tmp_path / "alone", "--adapter", str(tmp_path / "run" / "checkpoint-10"))
    assert alone["points"][0]["sets"] == last["sets"]


def test_what_cant_be_scored_is_named_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = preferences()
    rows[0]["chosen"][0]["content"] = data.joined("x" * 900, "y")
    rows[2]["rejected"][0]["content"] = data.joined("", " ")
    del rows[5]
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    model = save(tmp_path / "model", context=300)
    summary = run(model, path, tmp_path / "out", "--windows", "8", "100")
    said = capsys.readouterr().err
    assert "a-forward: a response is longer than the model's context of 300 tokens" in said
    assert "c-forward: its counterpart is missing" in said
    assert "b-forward: a response is empty; the row is left out" in said
    assert summary["points"][0]["sets"]["T_m"]["alp+"]["rows"] == 4
    assert summary["points"][0]["sets"]["T_r"]["pmi"]["rows"] == 1
    summary = run(model, path, tmp_path / "out", "--windows", "1000")
    assert "a-forward: prompt and window have more than the model's 300 tokens; the row is left out" in capsys.readouterr().err
    assert summary["points"][0]["sets"]["T_f"]["alp+"]["rows"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "no/such", "--dataset_name", "PAIRS"], "check --model"),
        (["--model", "MODEL", "--dataset_name", "no/such"], "check --dataset_name"),
        (["--model", "MODEL", "--dataset_name", "PAIRS", "--checkpoints", "nowhere"], "holds no checkpoint-N"),
    ],
)
def test_bad_input_gets_a_sentence(
    words: list[str], said: str, model: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stands = {"MODEL": str(model), "PAIRS": str(pairs)}
    assert probe.main([*(stands.get(word, word) for word in words), "--output", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.strip().splitlines()) == 1


# -- the authors' scoring ------------------------------------------------------------------------------------------


def test_the_published_score_is_its_definition() -> None:
    """The first completion token is dropped; the rest, its own prompt among it, is averaged; 1,000 tokens are the most."""
    model, tokenizer = small_model(), small_tokenizer()
    prompt = tokenizer(
        "<|im_start|>system\nYou are a helpful assistant.\n<|im_end|>\n<|im_start|>user\nQ?<|im_end|>\n<|im_start|>assistant\n",
        add_special_tokens=False,
    )["input_ids"]
    for text in ("<|im_start|>user\nR?<|im_end|>\nanswer", "z" * 1500):
        completion = tokenizer(text, add_special_tokens=False)["input_ids"][:1000]
        logps = model(torch.tensor([prompt + completion])).logits[0].detach().log_softmax(-1)
        by_hand = [float(logps[len(prompt) + place - 1, completion[place]]) for place in range(1, len(completion))]
        assert published_score(model, tokenizer, "Q?", text) == pytest.approx(sum(by_hand) / len(by_hand), abs=1e-4)


def test_prompt_and_completion_are_encoded_apart() -> None:
    """Where one text would be merged across their border, the published scorer does not."""
    tokenizer = small_tokenizer()
    tokenizer.add_tokens(["\n\n"])
    border = tokenizer("\n\n", add_special_tokens=False)["input_ids"]
    prompt = tokenizer(PROMPT.format(question="Q?"), add_special_tokens=False)["input_ids"]
    completion = tokenizer("\nx y", add_special_tokens=False)["input_ids"]
    together = tokenizer(PROMPT.format(question="Q?") + "\nx y", add_special_tokens=False)["input_ids"]
    assert len(border) == 1
    assert together != prompt + completion
    model = small_model(vocabulary=len(tokenizer))
    logps = model(torch.tensor([prompt + completion])).logits[0].detach().log_softmax(-1)
    by_hand = [float(logps[len(prompt) + place - 1, completion[place]]) for place in range(1, len(completion))]
    assert published_score(model, tokenizer, "Q?", "\nx y") == pytest.approx(sum(by_hand) / len(by_hand), abs=1e-4)


def test_the_published_softmax_is_in_the_models_own_precision() -> None:
    model, tokenizer = small_model().bfloat16(), small_tokenizer()
    prompt = tokenizer(PROMPT.format(question="Q?"), add_special_tokens=False)["input_ids"]
    completion = tokenizer("abcdef", add_special_tokens=False)["input_ids"]
    logits = model(torch.tensor([prompt + completion])).logits[0].detach()
    assert logits.dtype == torch.bfloat16
    places, targets = range(len(prompt), len(prompt) + len(completion) - 1), completion[1:]
    own, exact = (
        torch.stack([found[place, target] for place, target in zip(places, targets, strict=True)]).mean()
        for found in (logits.log_softmax(-1), logits.double().log_softmax(-1))
    )
    score = published_score(model, tokenizer, "Q?", "abcdef")
    assert score == float(own)
    assert abs(score - float(exact)) > 1e-4, "which costs digits"


def published(path: Path, transcripts: list[tuple[str, str, str, str]]) -> Path:
    names = ("question", "relevant-question", "text", "worse-text")
    pq.write_table(pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in transcripts]), path)
    return path


def transcript(question: str, reasoning: str, answer: str) -> str:
    return (
        f"<|im_start|>system\nYou are Qwen.<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        f"<|im_start|>think\n{reasoning}\n<|im_start|>answer\n{answer}<|im_end|>"
    )


def test_published_rows_are_asked_the_forward_question_and_scored_whole(model: Path, tmp_path: Path) -> None:
    forward, reverse = transcript("F?", "because", "5"), transcript("R?", "as", "Answer: 3")
    path = published(tmp_path / "published.parquet", [("F?", "R?", forward, reverse), ("F?", "R?", reverse, forward)])
    summary = run(model, path, tmp_path / "out", "--protocol", "published")
    plain, tokenizer = small_model(), small_tokenizer()
    one, other = (published_score(plain, tokenizer, "F?", text) for text in (forward, reverse))
    sets = summary["points"][0]["sets"]
    assert sets["T_f"]["alp+"]["value"] == pytest.approx(one, abs=1e-5)
    assert sets["T_r"]["alp+"]["value"] == pytest.approx(other, abs=1e-5), "after the forward question, too"
    assert sets["T_m"]["margin"]["value"] == pytest.approx(0, abs=1e-5)


def test_a_pair_with_a_side_that_has_no_score_is_left_out_as_theirs_are() -> None:
    """Of one token, which is dropped, nothing remains."""
    whole = transcript("F?", "because", "5")
    row = {"pair_id": "a", "direction": "forward", "question": "F?", "text": whole, "worse-text": whole}
    records = published_records(small_model(), small_tokenizer(), [row, {**row, "pair_id": "b", "worse-text": "z"}])
    assert [record["pair_id"] for record in records] == ["a", "a"]


def test_an_impossible_token_makes_its_pair_vanish() -> None:
    model, tokenizer = small_model(), small_tokenizer()
    impossible = tokenizer("~", add_special_tokens=False)["input_ids"][0]
    with torch.no_grad():  # tokens of no other text; a logit of -inf is a probability of 0
        model.lm_head.register_forward_hook(
            lambda _module, _args, logits: logits.index_fill(-1, torch.tensor([impossible]), -math.inf)
        )
    assert published_score(model, tokenizer, "Q?", "ab~c") == -math.inf
    row = {"pair_id": "a", "direction": "forward", "question": "F?", "text": "abc", "worse-text": "ab~c"}
    assert published_records(model, tokenizer, [row]) == []
    assert len(published_records(model, tokenizer, [{**row, "worse-text": "abd"}])) == 2


def test_our_protocol_reads_published_rows_by_the_reverse_question(tmp_path: Path) -> None:
    forward, reverse = transcript("F?", "because", "5"), transcript("R? (damaged)", "as", "Answer: 3")
    path = published(tmp_path / "published.parquet", [("F?", "R?", forward, reverse), ("F?", "R?", reverse, forward)])
    first, second = data.load_rows(str(path))
    assert (first["direction"], second["direction"]) == ("forward", "reverse")
    assert second["prompt"] == [{"role": "user", "content": "R?"}]
    assert second["chosen"][0]["content"] == "<think>\nas\n</think>\n\n3", "without the prefix that only they have"
    assert first["pair_id"] == second["pair_id"]


# -- several processes ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(model: Path, pairs: Path, tmp_path: Path) -> None:
    one = run(model, pairs, tmp_path / "one")
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "-m", "r1k_train"]
    words = [
        "probe",
        "--model",
        str(model),
        "--dataset_name",
        str(pairs),
        "--output",
        str(tmp_path / "two"),
        "--dtype",
        "float32",
    ]
    environment = os.environ | {"PYTHONPATH": str(root), "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run([*command, *words], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    two = json.loads((tmp_path / "two" / probe.SUMMARY).read_text())
    for mine, theirs in zip(one["points"], two["points"], strict=True):
        for name, measures in mine["sets"].items():
            for measure, estimate in measures.items():
                assert theirs["sets"][name][measure]["value"] == pytest.approx(estimate["value"], abs=1e-5)
