"""An lm-eval model whose every answer is on disk as soon as it is there, and is never asked for twice.

lm-eval's own cache skips sampled answers, tells the k samples of a prompt apart by nothing, and unpickles what it reads.
This one is a SQLite file with a row per (prompt, settings, sample number). Sample r of a prompt is drawn with seed + r,
so that a resumed evaluation has the numbers of one that was not interrupted.
"""

import hashlib
import json
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM
from lm_eval.models.openai_completions import LocalChatCompletion
from transformers import GenerationConfig


class Kept(NamedTuple):
    """One answer as it is kept."""

    text: str
    tokens: int | None
    """Generated tokens, reasoning included; None where the host did not say and there is no tokenizer."""
    finish: str
    """`stop`, `length` (truncated), or what else the host says; empty where unknown."""


class Answers:
    """The file: an answer is in it before the next is asked for."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS answer"
            " (key TEXT, sample INT, text TEXT, tokens INT, finish TEXT, PRIMARY KEY (key, sample))"
        )

    def get(self, key: str, sample: int) -> Kept | None:
        found = self._db.execute(
            "SELECT text, tokens, finish FROM answer WHERE key = ? AND sample = ?", (key, sample)
        ).fetchone()
        return Kept(*found) if found else None

    def put(self, key: str, sample: int, answer: Kept) -> None:
        text = answer.text.encode("utf-8", "replace").decode()
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?, ?)", (key, sample, text, answer.tokens, answer.finish)
            )

    def close(self) -> None:
        self._db.close()


class Told(str):
    """A text that knows what its host said of it."""

    __slots__ = ("finish", "tokens")

    def __new__(cls, text: str, tokens: int | None, finish: str) -> "Told":
        told = super().__new__(cls, text)
        told.tokens, told.finish = tokens, finish
        return told

    tokens: int | None
    finish: str


class Chat(LocalChatCompletion):  # type: ignore[misc]  # lm-eval ships no types
    """lm-eval's `local-chat-completions` that keeps the reasoning, the finish reason and the token count of a reply."""

    def _create_payload(self, *words: Any, **named: Any) -> dict[str, Any]:
        payload: dict[str, Any] = super()._create_payload(*words, **named)
        if not [stop for stop in payload.get("stop") or [] if stop]:
            payload.pop("stop", None)  # an empty list breaks some servers
        return payload

    def parse_generations(self, outputs: Any, **_: Any) -> list[str]:
        replies = outputs if isinstance(outputs, list) else [outputs]
        return [_told(choice, reply) for reply in replies for choice in sorted(reply["choices"], key=lambda one: one["index"])]


def _told(choice: dict[str, Any], reply: dict[str, Any]) -> Told:
    """One choice of a chat completion as text: reasoning in think tags where the host sends it apart."""
    message = choice["message"]
    content = message.get("content") or ""
    reasoning = message.get("reasoning") or message.get("reasoning_content") or ""
    if reasoning:
        content = f"<think>\n{reasoning}\n</think>\n\n{content}" if content else f"<think>\n{reasoning}"
    tokens = (reply.get("usage") or {}).get("completion_tokens")
    return Told(content, tokens if isinstance(tokens, int) else None, str(choice.get("finish_reason") or ""))


class Local(HFLM):  # type: ignore[misc]
    """lm-eval's `hf` that remembers how many tokens each row of a batch took, and whether it ended by itself.

    Of the model's own generation settings only its end stays: vLLM under lm-eval applies none of them either, and Qwen2.5's
    repetition penalty of 1.05 would make another model of it.
    """

    def __init__(self, *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        own = self.model.generation_config
        ends = {"eos_token_id": own.eos_token_id, "pad_token_id": own.pad_token_id}
        self.model.generation_config = GenerationConfig(**ends)  # type: ignore[no-untyped-call]
        self.counted: deque[tuple[int, str]] = deque()

    def _model_generate(self, context: Any, *words: Any, **named: Any) -> Any:
        made = super()._model_generate(context, *words, **named)
        ends = self.model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends]) | {self.eot_token_id}
        for row in made[:, context.shape[1] :].tolist():
            length = next((place + 1 for place, token in enumerate(row) if token in ends), None)
            self.counted.append((len(row) if length is None else length, "length" if length is None else "stop"))
        return made


class Resumable(LM):  # type: ignore[misc]
    """An lm-eval model that answers from the file what is in it and lets the one within answer the rest."""

    def __init__(self, within: Any, answers: Answers, seed: int, batch: int | None) -> None:
        """`batch`: how many requests are asked for together, always the same ones; None: all that are missing."""
        super().__init__()
        self.within, self._answers, self._seed, self._batch = within, answers, seed, batch
        self._asked: dict[str, tuple[str, int]] = {}
        self.sent = 0
        within.set_cache_hook(self)

    def add_partial(self, _: str, request: tuple[Any, dict[str, Any]], text: str) -> None:
        """lm-eval's hook: one answer has come."""
        key, sample = self._asked[_digest(request[0])]
        self._answers.put(key, sample, self._kept(text, request[1]))

    def _kept(self, text: str, settings: dict[str, Any]) -> Kept:
        if isinstance(text, Told):
            return Kept(str(text), text.tokens, text.finish)
        if isinstance(self.within, Local):
            return Kept(text, *self.within.counted.popleft())
        tokenizer = getattr(self.within, "tokenizer", None)
        tokens = len(tokenizer.encode(text, add_special_tokens=False)) if tokenizer is not None else None
        limit = settings.get("max_gen_toks")
        return Kept(text, tokens, "" if tokens is None or limit is None else ("length" if tokens >= limit else "stop"))

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002  # lm-eval's
        wanted = list(_numbered(requests))
        for sample in sorted({number for _, number, _ in wanted}):
            self._sample(sample, [(key, request) for key, number, request in wanted if number == sample])
        kept = [self._answers.get(key, number) for key, number, _ in wanted]
        texts = [answer.text for answer in kept if answer is not None]
        if len(texts) != len(requests):
            raise RuntimeError(f"{len(requests) - len(texts)} answers have not been kept")
        return texts

    def _sample(self, sample: int, wanted: list[tuple[str, Instance]]) -> None:
        """Ask for the sample of this number of each prompt that the file lacks."""
        if self._batch is None:
            missing = [pair for pair in wanted if self._answers.get(pair[0], sample) is None]
            self._ask(sample, missing, self._seed + sample)
            return
        longest_first = sorted(wanted, key=lambda pair: (-len(str(pair[1].args[0])), pair[0]))
        for number, batch in enumerate(_batches(longest_first, self._batch)):
            if any(self._answers.get(key, sample) is None for key, _ in batch):
                _seed_torch(f"{self._seed} {sample} {number}")
                self._ask(sample, batch, None)

    def _ask(self, sample: int, missing: list[tuple[str, Instance]], seed: int | None) -> None:
        if not missing:
            return
        self._asked = {_digest(request.args[0]): (key, sample) for key, request in missing}
        self.sent += len(missing)
        self.within.generate_until([_with_seed(request, seed) for _, request in missing])

    def loglikelihood(self, requests: list[Instance]) -> Any:
        return self.within.loglikelihood(requests)

    def loglikelihood_rolling(self, requests: list[Instance]) -> Any:
        return self.within.loglikelihood_rolling(requests)

    def apply_chat_template(self, *words: Any, **named: Any) -> Any:
        return self.within.apply_chat_template(*words, **named)

    def chat_template(self, *words: Any, **named: Any) -> Any:
        return self.within.chat_template(*words, **named)

    @property
    def tokenizer_name(self) -> str:
        return str(self.within.tokenizer_name)


def _digest(context: Any) -> str:
    return hashlib.sha256(json.dumps(context).encode()).hexdigest()


def answer_key(request: Instance) -> str:
    """What an answer is kept by: its rendered prompt and generation settings."""
    return hashlib.sha256(json.dumps(list(request.args), sort_keys=True).encode()).hexdigest()


def _numbered(requests: list[Instance]) -> Iterator[tuple[str, int, Instance]]:
    """Each request with its key and its number among those of the same key."""
    seen: dict[str, int] = {}
    for request in requests:
        key = answer_key(request)
        seen[key] = seen.get(key, -1) + 1
        yield key, seen[key], request


def _batches(pairs: Iterable[tuple[str, Instance]], size: int) -> Iterator[list[tuple[str, Instance]]]:
    left = iter(pairs)
    while batch := list(islice(left, size)):
        yield batch


def _with_seed(request: Instance, seed: int | None) -> Instance:
    """The request with a seed of its own, for hosts that take one; greedy answers need none."""
    context, settings = request.args
    if seed is None or not settings.get("do_sample"):
        return request
    return Instance(
        request.request_type, request.doc, (context, settings | {"seed": seed}), request.idx, metadata=request.metadata
    )


def _seed_torch(words: str) -> None:
    import torch

    torch.manual_seed(int.from_bytes(hashlib.sha256(words.encode()).digest()[:4]))
