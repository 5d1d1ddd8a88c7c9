"""The tokenizer and the model that are made on the spot."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from r1k_train import data, tiny


@pytest.fixture(scope="module")
def texts(folder: Path) -> list[str]:
    rows = data.rendered(data.load_rows(str(folder), "mixed"), "s1")
    return [turn["content"] for column in ("prompt", "completion") for turns in rows[column] for turn in turns]


@pytest.fixture(scope="module")
def tokenizer(texts: list[str]) -> Any:
    return tiny.make_tokenizer(texts)


def test_the_same_texts_give_the_same_tokenizer(texts: list[str], tokenizer: Any) -> None:
    assert tiny.make_tokenizer(texts).backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("7", ["7"]),
        ("10 × 99 = 990", ["10", " × ", "99", " = ", "990"]),
        ("67500", ["675", "0", "0"]),
        ("4.25", ["4", ".", "25"]),
    ],
)
def test_a_number_below_a_thousand_is_a_token(text: str, pieces: list[str], tokenizer: Any) -> None:
    assert [tokenizer.decode([token]) for token in tokenizer(text).input_ids] == pieces


def test_no_token_holds_a_digit_and_more(texts: list[str], tokenizer: Any) -> None:
    for text in texts[::7]:
        pieces = [tokenizer.decode([token]) for token in tokenizer(text).input_ids]
        assert all(piece.isdigit() for piece in pieces if any(letter.isdigit() for letter in piece))


def test_saved_beside_its_model_it_is_read_as_it_was(texts: list[str], tokenizer: Any, tmp_path: Path) -> None:
    tiny.make_model(tokenizer, 0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    read: Any = AutoTokenizer.from_pretrained(tmp_path)
    turns = [{"role": "user", "content": texts[0]}, {"role": "assistant", "content": texts[-1]}]
    assert read.apply_chat_template(turns, return_dict=False) == tokenizer.apply_chat_template(turns, return_dict=False)
    for text in texts[::7]:
        assert read(text).input_ids == tokenizer(text).input_ids
    assert (read.eos_token, read.pad_token) == (tokenizer.eos_token, tokenizer.pad_token)


@pytest.mark.parametrize(
    "text", ["unseen: Ω Ж 漢字 🙂\n\n  two  spaces", "<|im_start|>think\n1 + 1\n<|im_start|>answer\n2<|im_end|>"]
)
def test_any_text_comes_back(text: str, tokenizer: Any) -> None:
    assert tokenizer.decode(tokenizer(text).input_ids) == text


@pytest.mark.parametrize("reasoning_format", ["s1", "think"])
def test_no_token_reaches_from_reasoning_into_answer(
    reasoning_format: data.ReasoningFormat, folder: Path, tokenizer: Any
) -> None:
    for row in data.rendered(data.load_rows(str(folder), "reverse"), reasoning_format):
        text = row["completion"][0]["content"]
        start = data.answer_start(text, reasoning_format)
        found = tokenizer(text, return_offsets_mapping=True).offset_mapping
        assert start in {begin for begin, _ in found}


def test_a_model_has_its_seeds_weights_and_a_head_of_its_own(tokenizer: Any) -> None:
    first, again, other = (tiny.make_model(tokenizer, seed) for seed in (0, 0, 1))
    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
    assert first.lm_head.weight is not first.model.embed_tokens.weight
    assert 1e6 <= first.num_parameters() <= 3e6
    assert len(tokenizer) <= first.config.vocab_size
