"""A saved model of random weights that has room to learn a few answers, and the record of a run beside it."""

import json
from pathlib import Path

from tests.small_model import small_tokenizer


def make_tiny(folder: Path, seed: int = 0, hidden: int = 32, layers: int = 2) -> Path:
    """Write the model to `folder` as transformers would load it."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = small_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=4096, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None, tie_word_embeddings=True,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def record(folder: Path, **facts: object) -> Path:
    """The record that a training run leaves beside its model."""
    (folder / "run.json").write_text(json.dumps(facts))
    return folder
