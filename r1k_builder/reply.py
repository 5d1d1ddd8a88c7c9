"""Reads a host's raw reply to a chat request, wherever the host puts the reasoning, and says when it is no use.

The reasoning is read by the first of these rules that finds some, and `Completion.reasoning_in` names the rule:

    reasoning_details           OpenRouter: the texts of its `reasoning.text` blocks
    reasoning_details.summary   OpenRouter: where there are only summaries of a hidden chain of thought
    reasoning                   OpenRouter, vLLM from 0.11
    reasoning_content           DeepSeek, Alibaba, SGLang and older vLLM with a reasoning parser
    think-tags                  `<think>…</think>` at the head of the content: SambaNova, some Fireworks and Together
    thought-tags                `<thought>…</thought>` likewise: Gemini's OpenAI-compatible endpoint
    unopened-think              a closing tag alone: R1 under SGLang, whose chat template has opened it
    unclosed-think              an opening tag alone: a truncated answer; the rest is reasoning, the answer empty
    none

Text in a field of its own is kept to the character. Of tagged text the convention's line breaks are taken off:
one after the opening tag, one before the closing tag, up to two behind it.
"""

import json
import re
from typing import Any

from pydantic_core import from_json

from r1k_builder.schema import Completion, Rejection, Usage, clean_text

TRANSIENT_FINISH_REASONS = frozenset({"insufficient_system_resource", "aborted", "abort", "error"})
"""Finish reasons of an answer that the host broke off: DeepSeek's own, SGLang's and vLLM's, OpenRouter's."""

BAD_REQUESTS = 2
"""So many 400/422 to one request reject its row."""

MOST_TOKENS = 10**9
"""A token count above this is not one."""

_TAGS = {"think-tags": ("<think>", "</think>"), "thought-tags": ("<thought>", "</thought>")}
_SQUARE_TOKENS, _SQUARE_END = ("[INST]", "[/INST]"), "INST]"
_ANGLE_TOKEN = re.compile(  # begins with a plain character, which makes the search some ten times faster
    r"""<(?:\|(?:im_start|im_end|im_sep|endoftext|begin_of_text|end_of_text|eot_id|eom_id|start_header_id|end_header_id
            |system|user|assistant|end|start|channel|message|return|fim_\w{3,9})\|>
         | ｜[^｜<>\n]{1,40}｜> | </?SYS>> | (?:start|end)_of_turn> | /?think>)""",
    re.VERBOSE,
)


class UnreadableReply(ValueError):
    """The body is not a chat completion. The message says why and quotes nothing of it, as it may hold a key."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status
        """The HTTP status that an error object inside a 200 names (OpenRouter: 402, 429, 502, …)."""


def read_reply(raw: bytes, *, key: str, host: str, requested_model: str) -> Completion:
    """The completion in the body of a host's answer. Raises UnreadableReply where there is none.

    Blank lines before the body, which hosts send to keep a connection alive, do no harm. All text is encodable.
    """
    body = _load(raw)
    choice = _first_choice(body)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise UnreadableReply("the reply's first choice holds no message")
    content = _content(message.get("content"))
    rule, reasoning, answer = _split(message, content)
    return Completion(
        key=key,
        reasoning=reasoning,
        answer=answer,
        reasoning_in=rule,
        finish_reason=_text(choice.get("finish_reason")),
        requested_model=requested_model,
        model=_text(body.get("model")),
        host=host,
        fingerprint=_text(body.get("system_fingerprint")),
        usage=_usage(body.get("usage")),
        raw_text=content,
    )


def unusable(completion: Completion) -> Rejection | None:
    """Why no stage can use this completion, or None where one may: only a whole, non-empty answer is used.

    Reasons: `refused-by-host` (the check; no fresh sample mends it), and of the check `format`
    `truncated: finish_reason length`, `truncated: unclosed think`, `finish_reason: …`, `empty-answer`.
    """
    finish = completion.finish_reason
    if finish == "content_filter":
        return Rejection("refused-by-host", "finish_reason: content_filter")
    if finish == "length":
        return format_failure("truncated: finish_reason length")
    if finish != "stop":
        return format_failure(f"finish_reason: {finish[:60] if finish else 'none'}")
    if completion.reasoning_in == "unclosed-think":
        return format_failure("truncated: unclosed think")
    if not completion.answer.strip():
        return format_failure("empty-answer")
    return None


def format_failure(reason: str) -> Rejection:
    """A rejection by the check `format`, which a fresh sample could mend."""
    return Rejection("format", reason, retry=True)


def holds_control_token(text: str) -> bool:
    """Whether `text` holds a chat template's token, which a tokenizer would read as the end of a turn."""
    if "<" in text and _ANGLE_TOKEN.search(text) is not None:
        return True
    return _SQUARE_END in text and any(token in text for token in _SQUARE_TOKENS)


def is_bad_request(status: int) -> bool:
    """Whether a status blames the request itself, as 400, 413 and 422 do: not the key, the account, the path or the rate."""
    return 400 <= status < 500 and status not in {401, 402, 403, 404, 408, 409, 429}


def quote(body: bytes) -> str:
    """A host's own words on an error: short, on one line, printable."""
    text = body[:65536].decode("utf-8", "replace")
    try:
        error: Any = json.loads(text)
        while isinstance(error, dict) and ("error" in error or "message" in error):
            error = error.get("error", error.get("message"))
        text = error if isinstance(error, str) else text
    except (ValueError, RecursionError):
        pass
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line[:200] or "no explanation"


def _load(raw: bytes) -> dict[str, Any]:
    if not raw.strip():
        raise UnreadableReply("the host sent blank lines and no reply")
    try:
        body = _parse(raw)
    except (ValueError, RecursionError) as error:
        raise UnreadableReply(f"the reply is not whole JSON ({len(raw)} bytes)") from error
    if not isinstance(body, dict):
        raise UnreadableReply("the reply is JSON, but not an object")
    return body


def _parse(raw: bytes) -> Any:
    """pydantic's parser takes a third of the time of the standard library's, which in turn takes lone surrogates."""
    try:
        return from_json(raw)
    except ValueError:
        return json.loads(raw)


def _first_choice(body: dict[str, Any]) -> dict[str, Any]:
    choices = body.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    error = body.get("error")
    if error is None:
        raise UnreadableReply("the reply holds no choices")
    code = error.get("code") if isinstance(error, dict) else None
    named = re.fullmatch(r"[1-5]\d\d", str(code), re.ASCII)
    status = int(named[0]) if named else None
    raise UnreadableReply(f"the host sent an error in place of a completion (code {status or 'unknown'})", status)


def _content(content: object) -> str:
    """The text of `content`: a string, null, or a list of parts of which those of type `text` count."""
    if content is None or isinstance(content, str):
        return clean_text(content or "")
    if not isinstance(content, list):
        raise UnreadableReply(f"the message's content is of type {type(content).__name__}")
    return clean_text("".join(_parts(content, "text", "text")))


def _parts(parts: list[object], kind: str, field: str) -> list[str]:
    """The strings in `field` of those parts whose type is `kind`."""
    found = (part.get(field) for part in parts if isinstance(part, dict) and part.get("type") == kind)
    return [text for text in found if isinstance(text, str)]


def _split(message: dict[str, Any], content: str) -> tuple[str, str | None, str]:
    """(rule, reasoning, answer) of a message."""
    details = message.get("reasoning_details")
    details = details if isinstance(details, list) else []
    fields = {
        "reasoning_details": "".join(_parts(details, "reasoning.text", "text")),
        "reasoning_details.summary": "\n\n".join(_parts(details, "reasoning.summary", "summary")),
        "reasoning": message.get("reasoning"),
        "reasoning_content": message.get("reasoning_content"),
    }
    for rule, text in fields.items():
        if isinstance(text, str) and text.strip():
            return rule, clean_text(text), content
    return _split_tags(content)


def _split_tags(content: str) -> tuple[str, str | None, str]:
    head = content.lstrip()
    for rule, (opening, closing) in _TAGS.items():
        opened = head.startswith(opening)
        reasoning, closed, answer = head.removeprefix(opening).partition(closing)
        if opened and not closed:
            return "unclosed-think", _without_break_before(reasoning), ""
        if closed:
            reasoning = _without_break_after(_without_break_before(reasoning) if opened else reasoning)
            answer = _without_break_before(_without_break_before(answer))
            return rule if opened else "unopened-think", reasoning, answer
    return "none", None, content


def _without_break_before(text: str) -> str:
    return text[2:] if text.startswith("\r\n") else text.removeprefix("\n")


def _without_break_after(text: str) -> str:
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")


def _text(value: object) -> str | None:
    return clean_text(value) if isinstance(value, str) else None


def _usage(usage: object) -> Usage:
    """The token counts of a reply; None for one that is missing, or is not a plausible count."""
    if not isinstance(usage, dict):
        return Usage()
    prompt = _count(usage, "prompt_tokens")
    cached = _count(usage, "prompt_cache_hit_tokens")
    if cached is None:
        cached = _count(usage.get("prompt_tokens_details"), "cached_tokens")
    if cached is not None and (prompt is None or cached > prompt):
        cached = None  # a share of the prompt can't be more than the prompt
    return Usage(
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=_count(usage, "completion_tokens"),
        reasoning_tokens=_count(usage.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _count(counts: object, name: str) -> int | None:
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None
