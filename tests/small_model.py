"""A causal language model of a few thousand weights and a tokenizer of bytes, made on the spot."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from r1k_train.tiny import CHATML


def small_tokenizer() -> Any:
    """Bytes are tokens; the marks of ChatML are one token each."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={byte: number for number, byte in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    marks = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "additional_special_tokens": ["<|im_start|>"]}
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=core)  # type: ignore[no-untyped-call]
    tokenizer.add_special_tokens(marks)
    tokenizer.chat_template = CHATML
    return tokenizer


def small_model(seed: int = 0, vocabulary: int = 300, context: int = 4096, *, tied: bool = False) -> Any:
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=context, tie_word_embeddings=tied, initializer_range=0.3,
    )  # fmt: skip
    model: Any = Qwen2ForCausalLM(config)
    return model.eval()


def save(folder: Path, seed: int = 0, **sizes: Any) -> Path:
    """Model and tokenizer as a folder that `from_pretrained` reads."""
    small_model(seed, **sizes).save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder
