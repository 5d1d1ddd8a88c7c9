"""`model_name_or_path: tiny`: a seeded model and a tokenizer of its own, made on the spot from the rows that it will learn.

The embedded bank's rows, that is: numbers, units and few words.
"""

import re
from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

NAME = "tiny"
VOCABULARY = 3072
LONGEST = 32
"""Characters of a token."""
NUMBERS = [str(number) for number in range(10, 1000)]
"""Numbers that are a token each, beside the digits: to copy one is then one step, and a product of two is a table's entry."""
HEAD, SPREAD = 16, 0.08
"""Width of an attention head, and standard deviation of the initial weights: as `study/training.py` has them, and why."""
MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen2.5's template without its default system turn and tools."""
HEADS = [f"{word}\n" for word in ("system", "user", "assistant", "think", "answer")]
"""What follows `<|im_start|>`: a token each."""
_NUMBER = re.compile(r"\d{2,}")
_MARK = re.compile("|".join(map(re.escape, MARKS)))


def make_tokenizer(texts: Iterable[str]) -> Any:
    """Qwen2's tokenizer with an alphabet of bytes, and added tokens for words and numbers; of a number three digits are one.

    It has to be Qwen2's, for `AutoTokenizer` reads whatever stands beside a model of that shape as one. Words are the pieces
    of a unigram model (Kudo 2018, arXiv 1804.10959); the longest that fits is taken. What stands between two numbers of a
    line may be one of them, spaces and all ("short side is ", " m/s, t = "): rows are half as long as with words, and a number
    stands beside what it is. The same texts give the same tokenizer, on every process.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: number for number, piece in enumerate([MARKS[0], *alphabet])}
    special: dict[str, Any] = {"eos_token": "<|im_end|>", "pad_token": MARKS[0], "additional_special_tokens": ["<|im_start|>"]}
    tokenizer: Any = Qwen2Tokenizer(vocab=vocabulary, merges=[], **special)
    marks = ["<think>", "</think>", *HEADS]
    room = VOCABULARY - len(tokenizer) - len(marks) - len(NUMBERS)
    added = [*marks, *NUMBERS, *_pieces(texts, room + len(alphabet), alphabet)[:room]]
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in added])
    tokenizer.chat_template = CHATML
    return tokenizer


def _pieces(texts: Iterable[str], count: int, alphabet: list[str]) -> list[str]:
    """The words of at most `count` pieces of text without numbers, in order: of two characters or more, and whole ones."""
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\p{N}|\n|[^\p{N}\n]+"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    trainer = trainers.UnigramTrainer(
        vocab_size=count, special_tokens=[MARKS[0]], unk_token=MARKS[0], initial_alphabet=alphabet, max_piece_length=LONGEST,
        show_progress=False,
    )  # fmt: skip
    # numbers have their places already: as one digit they take none of the words'
    words = (piece for text in texts for piece in _MARK.split(_NUMBER.sub("0", text)) if piece)
    core.train_from_iterator(words, trainer)
    read = decoders.ByteLevel().decode
    found = {read([piece]) for piece in core.get_vocab() if piece != MARKS[0]}
    # what reads as bytes of something else would not come back from an added token
    return sorted(text for text in found if len(text) > 1 and "\ufffd" not in text and read([text]) == text)


def make_model(tokenizer: Any, seed: int) -> Any:
    """Qwen2's shape in a million parameters: 2 layers of 128; float32. The head is its own, and begins as the embeddings.

    So a number that attention has found is said by the weights that read it, from the first step on: numbers are copied sooner.
    """
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=128, intermediate_size=384, num_hidden_layers=2, num_attention_heads=128 // HEAD,
        num_key_value_heads=128 // HEAD, max_position_embeddings=1024, initializer_range=SPREAD, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight.copy_(model.model.embed_tokens.weight)
    return model
