"""`model_name_or_path: tiny`: a seeded model and a tokenizer of its own, made on the spot from the rows that it will learn."""

import re
from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

NAME = "tiny"
VOCABULARY = 1536
MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen2.5's template without its default system turn and tools."""


TURNS = ["system\n", "user\n", "assistant\n"] * 2
"""What the template says beside the messages, often enough to be merged."""
_MARK = re.compile("|".join(map(re.escape, MARKS)))


def make_tokenizer(texts: Iterable[str]) -> Any:
    """Byte-level BPE over `texts`; a digit is a token, as in Qwen's. The same texts give the same tokenizer.

    Unlike Qwen's, what stands between two digits or in a line is merged across its spaces ("speed of ", " m/s, t = "), so that
    a row is half as long: a CPU's minutes go to what is to be learnt.
    """
    core = Tokenizer(models.BPE())
    pieces = pre_tokenizers.Split(Regex(r"\p{N}|[^\p{N}\n]*\n|[^\p{N}\n]+"), "isolated")
    core.pre_tokenizer = pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(MARKS), initial_alphabet=sorted(alphabet), show_progress=False, min_frequency=2
    )
    core.train_from_iterator((piece for text in [*TURNS, *texts] for piece in _MARK.split(text)), trainer)
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=core)  # type: ignore[no-untyped-call]
    tokenizer.add_special_tokens(
        {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "additional_special_tokens": ["<|im_start|>"]}
    )
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = CHATML
    return tokenizer


def make_model(tokenizer: Any, seed: int) -> Any:
    """Qwen2's shape in about a million parameters: 3 layers of 128, 4 heads on 2, untied head; float32."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=128, intermediate_size=384, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)
