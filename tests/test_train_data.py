"""Rows as TRL trains on them: read from every source, rendered by one rule, counted against the limits; and each strategy by
direction shown to do what it says."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from datasets import Dataset

from r1k_train import data, run, sft
from tests.small_model import save, small_tokenizer

FORWARD = "A car goes 3 m/s for 4 s. How far does it go?"
REVERSE = "A car covers 12 m in 4 s. How fast is it?"
STORED = "<think>\n12 / 4 = 3\n</think>\n\nIt is \\boxed{3} m/s."


def turn(content: str, role: str = "assistant") -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


def row(pair: str, direction: str, response: str, question: str = FORWARD) -> dict[str, Any]:
    return {"pair_id": pair, "direction": direction, "prompt": turn(question, "user"), "completion": turn(response)}


def write_folder(path: Path, **configurations: list[dict[str, Any]]) -> Path:
    """A dataset folder with a configuration of each name, as `load_dataset` reads it."""
    listed = []
    for name, rows in configurations.items():
        (path / name).mkdir(parents=True)
        Dataset.from_list(rows).to_parquet(path / name / "train.parquet")
        listed.append({"config_name": name.replace("_", "-"), "data_files": f"{name}/*.parquet"})
    (path / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': listed})}---\n")
    return path


EACH = ["--activation_checkpointing", "false"]


def arguments(folder: Path | None = None, *words: str) -> tuple[sft.SftArguments, Any]:
    given = ["--dataset_name", str(folder), "--use_cpu", "true", "--bf16", "false", "--output_dir", "unused", *EACH, *words]
    found, settings, _ = sft.make_parser().parse_args_and_config(given)
    return found, settings


# -- rendering -----------------------------------------------------------------------------------------------------


def test_s1_has_the_papers_separators() -> None:
    assert data.response_text(STORED, "s1") == ("<|im_start|>think\n12 / 4 = 3\n<|im_start|>answer\nIt is \\boxed{3} m/s.")


def test_think_is_as_stored() -> None:
    assert data.response_text(STORED, "think") == STORED


def test_a_response_without_reasoning_is_all_answer() -> None:
    assert data.split("It is 3.") == ("", "It is 3.")
    assert data.response_text("It is 3.", "s1") == "<|im_start|>think\n\n<|im_start|>answer\nIt is 3."


def test_reasoning_keeps_its_own_lines_and_tags_in_an_answer_are_text() -> None:
    reasoning, answer = "first\n\n  second\n", "a <think>tag</think> is text"
    assert data.split(data.joined(reasoning, answer)) == (reasoning, answer)


@pytest.mark.parametrize("reasoning_format", ["s1", "think"])
def test_the_prefix_stands_before_the_answer_in_both_directions(reasoning_format: data.ReasoningFormat) -> None:
    rows = Dataset.from_list([row("p", "forward", STORED), row("p", "reverse", STORED, REVERSE)])
    for shown in data.rendered(rows, reasoning_format, "Answer: "):
        text = shown["completion"][0]["content"]
        assert text[data.answer_start(text, reasoning_format) :] == "Answer: It is \\boxed{3} m/s."
        assert text.count("Answer: ") == 1


# -- the authors' Parquet ------------------------------------------------------------------------------------------


def transcript(question: str, reasoning: str, answer: str) -> str:
    """As the authors publish them: s1's separators inside of Qwen's template."""
    return (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n<|im_start|>think\n{reasoning}\n"
        f"<|im_start|>answer\n{answer}<|im_end|>"
    )


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A forward row and its reverse row. `question` is the forward question in both, as it is in theirs."""
    forward = transcript(FORWARD, "3 × 4 = 12", "12 m")
    reverse = transcript(REVERSE, "12 / 4 = 3", "Answer: 3 m/s")
    rows = [
        {"question": FORWARD, "relevant-question": REVERSE, "text": forward, "worse-text": reverse},
        {"question": FORWARD, "relevant-question": REVERSE, "text": reverse, "worse-text": forward},
    ]
    path = tmp_path / "published.parquet"
    Dataset.from_list(rows).to_parquet(path)
    return path


def test_published_rows_are_read_with_the_reverse_question_as_the_prompt_of_reverse_rows(published: Path) -> None:
    forward, reverse = data.load_rows(str(published))
    assert (forward["direction"], reverse["direction"]) == ("forward", "reverse")
    assert forward["pair_id"] == reverse["pair_id"]
    assert forward["prompt"] == turn(FORWARD, "user")
    assert reverse["prompt"] == turn(REVERSE, "user")
    assert forward["chosen"] == reverse["rejected"] == turn(data.joined("3 × 4 = 12", "12 m"))
    # the prefix that their rendering put before reverse answers alone is gone
    assert reverse["chosen"] == forward["rejected"] == turn(data.joined("12 / 4 = 3", "3 m/s"))
    assert set(forward) == {"pair_id", "direction", "prompt", "chosen", "rejected"}


def test_published_columns_stay_where_they_are_asked_for(published: Path) -> None:
    rows = data.load_rows(str(published), keep_published=True)
    assert set(data.PUBLISHED) < set(rows.column_names)


def test_a_transcript_without_an_answer_is_refused(tmp_path: Path) -> None:
    broken = {"question": FORWARD, "relevant-question": REVERSE, "text": "no turns", "worse-text": "none"}
    Dataset.from_list([broken]).to_parquet(tmp_path / "broken.parquet")
    with pytest.raises(data.DataError, match="has no assistant's turn: 'no turns'"):
        data.load_rows(str(tmp_path / "broken.parquet"))


# -- reading -------------------------------------------------------------------------------------------------------


def test_a_dataset_without_the_columns_is_refused_by_name(tmp_path: Path) -> None:
    Dataset.from_list([{"text": "x", "label": 1}]).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(data.DataError, match=r"has the columns label, text: training needs prompt with completion"):
        data.load_rows(str(tmp_path / "other.parquet"))


def test_the_probe_configuration_is_read_as_pairs(folder: Path) -> None:
    rows = data.load_rows(str(folder), "probe")
    assert {"prompt", "chosen", "rejected", "direction"} <= set(rows.column_names)


def test_the_digest_is_of_texts_and_their_order() -> None:
    rows = Dataset.from_list([row("p", "forward", "one"), row("q", "reverse", "two")])
    assert data.digest(rows) == data.digest(rows.add_column("extra", [1, 2]))
    assert data.digest(rows) != data.digest(rows.select([1, 0]))


# -- lengths -------------------------------------------------------------------------------------------------------


def test_tokens_part_where_the_response_begins() -> None:
    tokenizer = small_tokenizer()
    prompt, response = data.tokens(tokenizer, turn(FORWARD, "user"), turn("x"))
    assert tokenizer.decode(prompt) == f"<|im_start|>user\n{FORWARD}<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(response) == "x<|im_end|>\n"


def test_a_template_that_changes_an_answered_prompt_is_refused() -> None:
    tokenizer = small_tokenizer()
    tokenizer.chat_template = "{{ messages | length }}{% for message in messages %}{{ message.content }}{% endfor %}"
    with pytest.raises(data.DataError, match="choose another tokenizer or chat template"):
        data.tokens(tokenizer, turn(FORWARD, "user"), turn("x"))


def test_what_is_cut_is_counted_in_tokens_and_refused_beyond_one_row_in_a_hundred() -> None:
    fits, long = data.Lengths(10, 20), data.Lengths(10, 45)
    assert data.check_lengths([fits] * 3, max_length=30) == "all 3 rows fit in 30 tokens"
    said = data.check_lengths([fits] * 99 + [long], max_length=50)
    assert said == "1 of 100 rows are longer than 50 tokens: 5 of 3,025 tokens are cut"
    with pytest.raises(data.DataError, match=r"^2 of 100 rows .* 10 of 3,050 tokens are cut: .*--allow_truncation true"):
        data.check_lengths([fits] * 98 + [long] * 2, max_length=50)
    assert "2 of 100" in data.check_lengths([fits] * 98 + [long] * 2, max_length=50, allow_truncation=True)


def test_a_prompt_may_be_600_tokens_long_and_no_longer(tmp_path: Path) -> None:
    template = len(data.tokens(small_tokenizer(), turn("", "user"), turn(STORED))[0])
    for size, said in ((600, ""), (601, "1 prompts are longer than 600 tokens")):
        rows = Dataset.from_list([row("p", "forward", STORED, "x" * (size - template))])
        found, settings = arguments(
            tmp_path, "--max_prompt_length", "600", "--max_length", "2000", "--allow_truncation", "true"
        )
        assert run.prepare(rows, found, settings, small_tokenizer())[1].partition("; ")[2] == said
    found.allow_truncation = False
    with pytest.raises(data.DataError, match="1 prompts are longer than 600 tokens: raise --max_prompt_length"):
        run.prepare(rows, found, settings, small_tokenizer())


def test_overlong_forward_rows_are_geminis(tmp_path: Path) -> None:
    """The paper: "some of the excess data are replaced with Gemini data" (A.4.1)."""
    long = data.joined("long " * 100, "12 m")
    short = data.joined("3 × 4 = 12", "Gemini: 12 m")
    mixed = [
        row("a", "forward", long), row("b", "forward", STORED), row("a", "reverse", STORED, REVERSE), row("c", "forward", long),
    ]  # fmt: skip
    folder = write_folder(tmp_path, mixed=mixed, forward_gemini=[row("b", "forward", short), row("a", "forward", short)])
    found, settings = arguments(folder, "--dataset_config", "mixed", "--overlong", "gemini", "--max_length", "300")
    with pytest.raises(data.DataError, match="1 of 4 rows are longer than 300"):  # c has no counterpart
        run.prepare(run.load(found), found, settings, small_tokenizer())
    found.allow_truncation = True
    shown, said = run.prepare(run.load(found), found, settings, small_tokenizer())
    assert said.startswith("1 forward rows beyond 300 tokens are Gemini's, 1 have none; 1 of 4 rows are longer")
    texts = [one[0]["content"] for one in shown["completion"]]
    assert [one.rpartition("\n")[2] for one in texts] == [
        "Gemini: 12 m",
        "It is \\boxed{3} m/s.",
        "It is \\boxed{3} m/s.",
        "12 m",
    ]


def test_pairs_have_no_gemini_rows(folder: Path) -> None:
    found, settings = arguments(folder, "--overlong", "gemini")
    with pytest.raises(run.RecipeError, match="preference pairs have none"):
        run.prepare(data.load_rows(str(folder), "preference"), found, settings, small_tokenizer())


# -- strategies by direction ---------------------------------------------------------------------------------------

PAIRS = [
    row("a", "forward", "a f"), row("b", "reverse", "b r"), row("b", "forward", "b f"), row("c", "reverse", "c r"),
    row("a", "reverse", "a r"), row("c", "forward", "c f"),
]  # fmt: skip


def trainer_of(folder: Path, shown: Dataset, settings: Any) -> sft.DirectedSFTTrainer:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    trainer = sft.DirectedSFTTrainer(model=model, args=settings, train_dataset=shown, processing_class=tokenizer)
    trainer.data_collator = sft.Weighing(trainer.data_collator)
    return trainer


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("forward-first", "a f, b f, c f, b r, c r, a r"),
        ("reverse-first", "b r, c r, a r, a f, b f, c f"),
        ("interleaved", "a f, a r, b f, b r, c f, c r"),
    ],
)
def test_rows_come_in_the_order_asked_for_in_every_epoch(order: str, expected: str, tmp_path: Path) -> None:
    found, settings = arguments(tmp_path, "--order", order, "--per_device_train_batch_size", "1", "--num_train_epochs", "2")
    shown, _ = run.prepare(Dataset.from_list(PAIRS), found, settings, small_tokenizer())
    trainer = trainer_of(save(tmp_path / "model"), shown, settings)
    for epoch in range(2):
        loader = trainer.get_train_dataloader()
        loader.set_epoch(epoch)
        texts = [small_tokenizer().decode(batch["labels"][batch["labels"] != -100]) for batch in loader]
        assert ", ".join(text.rpartition("answer\n")[2].removesuffix("<|im_end|>\n") for text in texts) == expected


def test_mixed_is_shuffled(tmp_path: Path) -> None:
    rows = [row(str(number), "forward", f"{number}") for number in range(20)]
    found, settings = arguments(tmp_path, "--order", "mixed", "--per_device_train_batch_size", "1")
    shown, _ = run.prepare(Dataset.from_list(rows), found, settings, small_tokenizer())
    loader = trainer_of(save(tmp_path / "model"), shown, settings).get_train_dataloader()
    first, second = ([batch["input_ids"].tolist() for batch in loader] for _ in range(2))
    assert sorted(first) == sorted(second)
    assert first != second


def test_a_tag_names_the_direction_and_is_not_learnt(tmp_path: Path) -> None:
    found, settings = arguments(tmp_path, "--direction_tag", "true")
    shown, _ = run.prepare(Dataset.from_list(PAIRS[:2]), found, settings, small_tokenizer())
    trainer = trainer_of(save(tmp_path / "model"), shown, settings)
    batch = trainer.data_collator([trainer.train_dataset[number] for number in range(2)])
    for ids, labels, direction in zip(batch["input_ids"], batch["labels"], ("forward", "reverse"), strict=True):
        assert small_tokenizer().decode(ids).startswith(f"<|im_start|>system\nDirection: {direction}.<|im_end|>\n")
        assert "Direction" not in small_tokenizer().decode(labels[labels != -100])


def test_weights_by_direction_are_those_of_the_loss_that_is_trained(tmp_path: Path) -> None:
    """Σ w·nll over all response tokens ÷ their number, beside a dense computation in float64; and the gradient with it."""
    rows = [*PAIRS[:2], row("d", "forward", "a longer one")]
    found, settings = arguments(tmp_path, "--forward_weight", "0.25", "--reverse_weight", "3")
    shown, _ = run.prepare(Dataset.from_list(rows), found, settings, small_tokenizer())
    shown = shown.add_column("weight", run.row_weights(shown["direction"], found))
    trainer = trainer_of(save(tmp_path / "model"), shown, settings)
    batch = trainer.data_collator([trainer.train_dataset[number] for number in range(3)])
    assert batch["weight"].tolist() == [0.25, 3, 0.25]

    from transformers import AutoModelForCausalLM

    dense = AutoModelForCausalLM.from_pretrained(tmp_path / "model").double()
    logits = dense(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    labels = batch["labels"][:, 1:]
    nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    expected = (nll * batch["weight"][:, None]).sum() / (labels != -100).sum()
    expected.backward()

    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for (name, one), other in zip(trainer.model.named_parameters(), dense.parameters(), strict=True):
        assert other.grad is not None
        assert (one.grad.double() - other.grad).norm() <= 1e-5 * other.grad.norm(), name


def test_weights_of_one_change_nothing(tmp_path: Path) -> None:
    found, settings = arguments(tmp_path)
    shown, _ = run.prepare(Dataset.from_list(PAIRS), found, settings, small_tokenizer())
    folder = save(tmp_path / "model")
    plain = trainer_of(folder, shown, settings)
    weighted = trainer_of(folder, shown.add_column("weight", [1.0] * 6), settings)
    batches = [one.data_collator([one.train_dataset[number] for number in range(6)]) for one in (plain, weighted)]
    assert "weight" not in batches[0]
    first, second = (one.compute_loss(one.model, batch) for one, batch in zip((plain, weighted), batches, strict=True))
    assert first.item() == pytest.approx(second.item(), rel=1e-6)


def test_negative_weights_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert sft.main(["--forward_weight", "-1", "--use_cpu", "true", "--bf16", "false", *EACH]) == 2
    assert "may not be negative" in capfd.readouterr().err


def test_sft_on_both_responses_learns_the_chosen_and_then_the_rejected(folder: Path) -> None:
    rows = data.load_rows(str(folder), "preference")
    chosen, both = sft.responses(rows, False), sft.responses(rows, True)
    assert chosen["completion"] == rows["chosen"][:]
    assert both["completion"] == [*rows["chosen"], *rows["rejected"]]
    assert both["prompt"] == [*rows["prompt"], *rows["prompt"]]
    assert not {"chosen", "rejected"} & set(both.column_names)
    with pytest.raises(run.RecipeError, match="--dataset_config preference"):
        sft.responses(data.load_rows(str(folder), "reverse"), True)
