"""Datasets as TRL trains on them: which columns they have, how reasoning is rendered, what a length limit would cut.

Everything that is read comes through `load_rows`: a configuration of an r1k folder or Hub repository, or the Parquet that
the paper's authors published. Rows keep TRL's conversational columns (`prompt` with `completion`, or with `chosen` and
`rejected`) beside `pair_id` and `direction`; nothing but the assistant's text is changed by `rendered`.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from datasets import Dataset, load_dataset

ReasoningFormat = Literal["s1", "think"]
Direction = Literal["forward", "reverse"]

RESPONSES = ("completion", "chosen", "rejected")
"""Columns that hold an assistant's turn."""
PUBLISHED = ("question", "text", "worse-text", "relevant-question")
"""Columns of the authors' Parquet (github.com/16demi/ReasonAlign-analysis)."""
PROBE = {"preferred": "chosen", "dispreferred": "rejected"}
"""Columns of the `probe` configuration, and what a trainer calls them."""


class DataError(Exception):
    """What a user can mend about a dataset, in one sentence that says what to type."""


# -- reading -------------------------------------------------------------------------------------------------------


def load_rows(name: str, config: str | None = None, revision: str | None = None, *, keep_published: bool = False) -> Dataset:
    """The `train` split of `name` (a folder, a Hub id or a Parquet file) with the columns of this module's docstring.

    With `keep_published` the authors' own columns stay beside them.

    Raises DataError where it can't be read, has no configuration `config`, or has none of the known columns.
    """
    try:
        if Path(name).is_file():
            rows = load_dataset("parquet", data_files=name, split="train")
        else:
            rows = load_dataset(name, config, revision=revision, split="train")
    except (ValueError, FileNotFoundError, ConnectionError, RuntimeError, OSError) as error:
        # BuilderConfig not found, no such folder or repository, no network
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:300]
        asked = f"{name}, configuration {config}," if config else name
        raise DataError(f"{asked} can't be loaded ({reason}): check --dataset_name and --dataset_config") from error
    return _known_columns(rows, name, keep_published)


def _known_columns(rows: Dataset, name: str, keep_published: bool) -> Dataset:
    columns = set(rows.column_names)
    if set(PUBLISHED) <= columns:
        gone = [] if keep_published else rows.column_names
        return rows.map(_published_row, remove_columns=gone, desc="reading transcripts")
    if set(PROBE) <= columns:
        rows = rows.rename_columns(PROBE)
        columns = set(rows.column_names)
    if "prompt" not in columns or not columns & {"completion", "chosen"}:
        raise DataError(
            f"{name} has the columns {', '.join(sorted(columns))}: training needs prompt with completion, or with chosen and"
            " rejected (configurations reverse, forward, mixed, preference, probe of an r1k dataset)"
        )
    return rows


def digest(rows: Dataset) -> str:
    """Names the content of a dataset for a run's record: SHA-256 over its rows' texts, in order."""
    total = hashlib.sha256()
    for column in sorted(set(rows.column_names) & {"prompt", *RESPONSES}):
        for turns in rows[column]:
            for turn in turns:
                total.update(f"{column}\0{turn['role']}\0{turn['content']}\0".encode())
    return total.hexdigest()


def commit_of(rows: Dataset) -> str | None:
    """The Hub commit that rows were read from, 40 hex digits; None where they came from a folder or a file."""
    kept_in = {Path(file["filename"]).parent.name for file in rows.cache_files}  # datasets names the folder by the commit
    commits = list(filter(_COMMIT.fullmatch, kept_in))
    return commits[0] if len(commits) == len(kept_in) == 1 else None


_COMMIT = re.compile("[0-9a-f]{40}")

# -- the authors' Parquet ------------------------------------------------------------------------------------------

_USER = re.compile(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", re.DOTALL)
_ASSISTANT = re.compile(
    r"<\|im_start\|>assistant\n(?:<\|im_start\|>think\n(?P<reasoning>.*?)\n?<\|im_start\|>answer\n)?(?P<answer>.*?)(?:<\|im_end\|>\s*)?\Z",
    re.DOTALL,
)
_PREFIX = "Answer: "
"""Stands before 49 of 50 published reverse answers and before no forward one: an artefact of rendering, taken off."""


def _published_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of whole transcripts, as the prompt and two responses.

    A row is reverse where its transcript asks something else than `question`, which is always the forward question; its
    prompt is then `relevant-question`. (The authors' own script takes `question` in both.)
    """
    asked = _USER.search(row["text"])
    forward = asked is None or asked[1].strip() == row["question"].strip()
    question = row["question"] if forward else row["relevant-question"]
    return {
        "pair_id": hashlib.sha256(row["question"].encode()).hexdigest()[:20],
        "direction": "forward" if forward else "reverse",
        "prompt": [{"role": "user", "content": question}],
        "chosen": _published_response(row["text"]),
        "rejected": _published_response(row["worse-text"]),
    }


def _published_response(transcript: str) -> list[dict[str, str]]:
    found = _ASSISTANT.search(transcript)
    if found is None:
        raise DataError(f"a transcript has no assistant's turn: {transcript[:80]!r}")
    return [{"role": "assistant", "content": joined(found["reasoning"] or "", found["answer"].removeprefix(_PREFIX))}]


# -- rendering -----------------------------------------------------------------------------------------------------

_THINK = re.compile(r"\A\s*<think>\n?(?P<reasoning>.*?)\n?</think>\s*(?P<answer>.*)\Z", re.DOTALL)


def joined(reasoning: str, answer: str) -> str:
    """A response as r1k stores it."""
    return f"<think>\n{reasoning}\n</think>\n\n{answer}"


def split(content: str) -> tuple[str, str]:
    """The reasoning and the answer of a response as r1k stores it; all is answer where it has no reasoning."""
    found = _THINK.match(content)
    return (found["reasoning"], found["answer"]) if found else ("", content)


def response_text(content: str, reasoning_format: ReasoningFormat, answer_prefix: str = "") -> str:
    """A stored response as the model is to write it, by one rule for both directions.

    `s1` is the paper's ("special separation tokens", section 3.1; s1's tokenization): `<|im_start|>think`, the reasoning,
    `<|im_start|>answer`, the answer, each on lines of their own. `think` has `<think>` tags, as r1k stores it.
    """
    reasoning, answer = split(content)
    answer = answer_prefix + answer
    if reasoning_format == "think":
        return joined(reasoning, answer)
    return f"<|im_start|>think\n{reasoning}\n<|im_start|>answer\n{answer}"


def answer_start(text: str, reasoning_format: ReasoningFormat) -> int:
    """Where in a rendered response what follows the reasoning begins, in characters; its end where nothing does."""
    mark = "</think>\n\n" if reasoning_format == "think" else "<|im_start|>answer\n"
    before, found, _ = text.partition(mark)
    return len(before) + len(found)


def rendered(rows: Dataset, reasoning_format: ReasoningFormat, answer_prefix: str = "") -> Dataset:
    """`rows` with each response as `response_text` has it."""
    columns = [column for column in RESPONSES if column in rows.column_names]

    def render(row: dict[str, Any]) -> dict[str, Any]:
        return {
            column: [
                {**turn, "content": response_text(turn["content"], reasoning_format, answer_prefix)} for turn in row[column]
            ]
            for column in columns
        }

    return rows.map(render, desc="rendering")


# -- lengths -------------------------------------------------------------------------------------------------------


class Lengths(NamedTuple):
    """Tokens of a row: of its prompt with the chat template around it, and of its longest response with its end."""

    prompt: int
    response: int


def tokens(tokenizer: Any, prompt: Sequence[dict[str, str]], response: Sequence[dict[str, str]]) -> tuple[list[int], list[int]]:
    """The token ids of a prompt, up to where the response begins, and of the response with what the template ends it with.

    Raises DataError where the template renders a prompt otherwise once it is answered: no mask could tell them apart.
    """
    (found,) = _tokens(tokenizer, [prompt], [response])
    return found


def _tokens(tokenizer: Any, prompts: Sequence[Any], responses: Sequence[Any]) -> list[tuple[list[int], list[int]]]:
    """`tokens` of several, which the tokenizer reads side by side."""
    wholes = [[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)]
    shared = {"tokenize": True, "return_dict": False}
    begun = tokenizer.apply_chat_template([list(prompt) for prompt in prompts], add_generation_prompt=True, **shared)
    found = []
    for start, whole in zip(begun, tokenizer.apply_chat_template(wholes, **shared), strict=True):
        if whole[: len(start)] != start:
            raise DataError("the chat template changes a prompt when it is answered: choose another tokenizer or chat template")
        found.append((start, whole[len(start) :]))
    return found


def lengths(rows: Dataset, tokenizer: Any) -> list[Lengths]:
    """Of each row, in order."""
    columns = [column for column in RESPONSES if column in rows.column_names]
    found: list[Lengths] = []
    for part in rows.select_columns(["prompt", *columns]).iter(batch_size=64):
        sides = [_tokens(tokenizer, part["prompt"], part[column]) for column in columns]
        found += [
            Lengths(max(len(prompt) for prompt, _ in row), max(len(response) for _, response in row))
            for row in zip(*sides, strict=True)
        ]
    return found


MOST_CUT = 0.01
"""Share of rows that a limit may cut before it is refused."""


def check_lengths(
    found: Sequence[Lengths], *, max_length: int | None, max_prompt_length: int | None = None, allow_truncation: bool = False
) -> str:
    """What the limits cut, in a sentence. Raises DataError where that is more than MOST_CUT of the rows."""
    cut = [most for most in (one.prompt + one.response for one in found) if max_length is not None and most > max_length]
    lost = sum(most - (max_length or 0) for most in cut)
    long_prompts = sum(max_prompt_length is not None and one.prompt > max_prompt_length for one in found)
    total = sum(sum(one) for one in found)
    said = (
        f"{len(cut):,} of {len(found):,} rows are longer than {max_length:,} tokens: {lost:,} of {total:,} tokens are cut"
        if cut
        else (
            f"all {len(found):,} rows fit in {max_length:,} tokens"
            if max_length is not None
            else f"{len(found):,} rows, no limit"
        )
    )
    if long_prompts:
        said += f"; {long_prompts:,} prompts are longer than {max_prompt_length:,} tokens"
    if len(cut) + long_prompts > MOST_CUT * len(found) and not allow_truncation:
        mend = "raise --max_length, take --overlong gemini," if cut else "raise --max_prompt_length"
        raise DataError(f"{said}: {mend} or type --allow_truncation true")
    return said


def without_overlong(rows: Dataset, keep: Callable[[int], bool], others: Dataset) -> tuple[Dataset, int, int]:
    """`rows` in which each forward row that `keep` (by its number) does not keep is the row of `others` of the same pair.

    Returns them with how many were replaced and how many had no counterpart, which stay. The paper did so (A.4.1: "some of
    the excess data are replaced with Gemini data").
    """
    by_pair = {pair_id: number for number, pair_id in enumerate(others["pair_id"])}
    replaced = missing = 0

    def replace(row: dict[str, Any], number: int) -> dict[str, Any]:
        nonlocal replaced, missing
        if keep(number) or row["direction"] != "forward":
            return {"completion": row["completion"]}
        if row["pair_id"] not in by_pair:
            missing += 1
            return {"completion": row["completion"]}
        replaced += 1
        return {"completion": others[by_pair[row["pair_id"]]]["completion"]}

    done = rows.map(replace, with_indices=True, load_from_cache_file=False, desc="replacing what is too long")
    return done, replaced, missing
