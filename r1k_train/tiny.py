"""`model_name_or_path: tiny`: a seeded model and a tokenizer of its own, made on the spot from the rows that it will learn."""

import json
import re
from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

NAME = "tiny"
VOCABULARY = 1024
LONGEST = 32
"""Characters of a token."""
MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen2.5's template without its default system turn and tools."""


HEADS = [f"{word}\n" for word in ("system", "user", "assistant", "think", "answer")]
"""What follows `<|im_start|>`: a token each."""
_MARK = re.compile("|".join(map(re.escape, MARKS)))


def make_tokenizer(texts: Iterable[str]) -> Any:
    """A unigram model over bytes (Kudo 2018, arXiv 1804.10959); a digit is a token, as in Qwen's.

    What stands between two digits of a line may be one token, spaces and all ("short side is ", " m/s, t = "): rows are half as
    long as with words, and a number stands beside what it is. The same texts give the same tokenizer, on every process.
    """
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\p{N}|\n|[^\p{N}\n]+"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    core.decoder = decoders.ByteLevel()
    trainer = trainers.UnigramTrainer(
        vocab_size=VOCABULARY - len(MARKS) - len(HEADS), initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[MARKS[0]], unk_token=MARKS[0], max_piece_length=LONGEST, show_progress=False,
    )  # fmt: skip
    core.train_from_iterator((piece for text in texts for piece in _MARK.split(text) if piece), trainer)
    core.model = models.Unigram([(MARKS[0], 0.0), *_reproducible(core)], unk_id=0)
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=core)  # type: ignore[no-untyped-call]
    tokenizer.add_special_tokens(
        {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "additional_special_tokens": ["<|im_start|>"]}
    )
    tokenizer.add_tokens(["<think>", "</think>", *HEADS])
    tokenizer.chat_template = CHATML
    return tokenizer


def _reproducible(core: Any) -> list[tuple[str, float]]:
    """The pieces with their scores, less what the trainer leaves to chance: the order of its sums, and so the last digits, and
    the order in which single bytes come that it would not have kept.
    """
    scores = dict(json.loads(core.to_str())["model"]["vocab"][1:])
    lowest = min(scores.values())
    costs = sorted((-round(lowest if len(piece) == 1 else score, 6), piece) for piece, score in scores.items())
    return [(piece, -cost) for cost, piece in costs]


def make_model(tokenizer: Any, seed: int) -> Any:
    """Qwen2's shape in under a million parameters: 3 layers of 128, 4 heads on 2, untied head; float32."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=128, intermediate_size=384, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)
