"""Raw bodies as hosts send them (tests/hosts: NAME.json, and NAME.expected for what must be read in it)."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from r1k_builder.reply import TRANSIENT_FINISH_REASONS, UnreadableReply, holds_control_token, read_reply, unusable
from r1k_builder.schema import Completion, Rejection

HOSTS = sorted((Path(__file__).parent / "hosts").glob("*.json"))


def read(raw: bytes) -> Completion:
    return read_reply(raw, key="0" * 64, host="api.example", requested_model="asked-for")


def body(message: dict[str, Any], finish_reason: str | None = "stop") -> bytes:
    return json.dumps({"model": "m", "choices": [{"message": message, "finish_reason": finish_reason}]}).encode()


@pytest.mark.parametrize("path", HOSTS, ids=lambda path: path.stem)
def test_every_host_is_read(path: Path) -> None:
    expected = json.loads(path.with_suffix(".expected").read_text(encoding="utf-8"))
    if "unreadable" in expected:
        with pytest.raises(UnreadableReply) as caught:
            read(path.read_bytes())
        assert {"unreadable": str(caught.value), "status": caught.value.status} == expected
        return
    completion = read(path.read_bytes())
    found = asdict(completion) | {"usage": completion.usage.model_dump()}
    assert {name: found[name] for name in expected} == expected
    assert (completion.key, completion.host, completion.requested_model) == ("0" * 64, "api.example", "asked-for")


def test_the_content_is_kept_as_it_was_sent() -> None:
    content = "<think>\n2 + 2\n</think>\n\nIt is \\boxed{4}."
    completion = read(body({"content": content}))
    assert (completion.reasoning, completion.answer, completion.raw_text) == ("2 + 2", "It is \\boxed{4}.", content)


@pytest.mark.parametrize(
    ("content", "rule", "reasoning", "answer"),
    [
        ("<think>\na\n</think>\n\nb", "think-tags", "a", "b"),
        ("<think>a</think>b", "think-tags", "a", "b"),
        ("<think>\r\na\r\n</think>\r\n\r\nb", "think-tags", "a", "b"),
        ("<think>\n\n a \n\n</think>\n\n\n b \n", "think-tags", "\n a \n", "\n b \n"),
        ("\n\n<think>\na\n</think>\n\nb", "think-tags", "a", "b"),
        ("<think>\na\n</think>\n\nb </think> c", "think-tags", "a", "b </think> c"),
        ("a\n</think>\n\nb", "unopened-think", "a", "b"),
        ("\na\n</think>b", "unopened-think", "a", "b"),
        ("<think>\na", "unclosed-think", "a", ""),
        ("<think>", "unclosed-think", "", ""),
        ("<thought>\na</thought>b", "thought-tags", "a", "b"),
        ("I <think> so", "none", None, "I <think> so"),
        ("", "none", None, ""),
    ],
)
def test_tags_lose_the_conventions_line_breaks_and_no_other(
    content: str, rule: str, reasoning: str | None, answer: str
) -> None:
    completion = read(body({"content": content}))
    assert (completion.reasoning_in, completion.reasoning, completion.answer) == (rule, reasoning, answer)


def test_a_field_of_its_own_is_kept_to_the_character() -> None:
    completion = read(body({"content": "\n\n b \n", "reasoning_content": " \n a\n\n"}))
    assert (completion.reasoning, completion.answer) == (" \n a\n\n", "\n\n b \n")


def test_the_first_rule_that_finds_reasoning_wins() -> None:
    message = {
        "reasoning_details": [{"type": "reasoning.text", "text": "details"}, {"type": "reasoning.summary", "summary": "short"}],
        "reasoning": "field",
        "reasoning_content": "older field",
        "content": "<think>\ntags\n</think>\n\nb",
    }
    rules = []
    for name in ("", "reasoning_details", "reasoning", "reasoning_content"):
        if name:
            message[name] = " \n"  # blank, or of another type: not the reasoning
        rules.append((read(body(message)).reasoning_in, read(body(message)).reasoning))
    assert rules == [
        ("reasoning_details", "details"),
        ("reasoning", "field"),
        ("reasoning_content", "older field"),
        ("think-tags", "tags"),
    ]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe\x00",
        b"[" * 200_000,
        b"{" * 200_000,
        b'{"choices": [null]}',
        b'{"choices": {"0": {}}}',
        b'{"choices": [[]]}',
        b'{"choices": [{"message": []}]}',
        b'{"choices": [{"message": {"content": {"text": "a"}}}]}',
        b'{"choices": [{"message": {"content": "a"}, "n": ' + b"9" * 5000 + b"}]}",
        b'{"error": {"code": "invalid_api_key", "message": "Incorrect API key provided: sk-1234567890"}}',
        b'{"error": {"code": [1]}}',
        b'data: {"choices": []}\n\ndata: [DONE]\n\n',
    ],
)
def test_what_is_no_completion_is_said_to_be_none_without_quoting_it(raw: bytes) -> None:
    with pytest.raises(UnreadableReply) as caught:
        read(raw)
    assert "sk-" not in str(caught.value)
    assert caught.value.status is None


@pytest.mark.parametrize(
    ("code", "status"), [(402, 402), ("429", 429), (502.0, None), (0, None), (70000, None), (True, None), ("４02", None)]
)
def test_the_status_inside_a_200_is_passed_on(code: object, status: int | None) -> None:
    with pytest.raises(UnreadableReply) as caught:
        read(json.dumps({"error": {"code": code, "message": "no"}}).encode())
    assert caught.value.status == status


def test_odd_fields_are_none_and_stop_nothing() -> None:
    raw = json.dumps(
        {
            "model": {"a": 1},
            "system_fingerprint": 5,
            "usage": [3],
            "choices": [{"finish_reason": 7, "message": {"content": "b", "reasoning_details": "x", "reasoning": ["a"]}}],
        }
    )
    completion = read(raw.encode())
    assert (completion.model, completion.fingerprint, completion.finish_reason) == (None, None, None)
    assert (completion.reasoning, completion.reasoning_in, completion.answer) == (None, "none", "b")


def test_all_text_can_be_written_as_utf_8() -> None:
    raw = (
        b'{"model": "\\ud800", "system_fingerprint": "\\udfff", "choices": [{"finish_reason": "st\\ud83dop",'
        b' "message": {"content": "a \\ud83d", "reasoning_content": "\\udc00"}}]}'
    )
    completion = read(raw)
    for text in (completion.model, completion.fingerprint, completion.finish_reason, completion.answer, completion.reasoning):
        assert text is not None
        assert "\ufffd" in text
        text.encode()


FINISHED = body({"content": "b", "reasoning": "a"})


@pytest.mark.parametrize(
    ("raw", "rejection"),
    [
        (FINISHED, None),
        (body({"content": "b"}), None),  # whether reasoning is needed is the stage's to say
        (body({"content": "b"}, "length"), Rejection("format", "truncated: finish_reason length", retry=True)),
        (body({"content": "b"}, "content_filter"), Rejection("refused-by-host", "finish_reason: content_filter")),
        (body({"content": "b"}, "aborted"), Rejection("format", "finish_reason: aborted", retry=True)),
        (body({"content": "b"}, "tool_calls"), Rejection("format", "finish_reason: tool_calls", retry=True)),
        (body({"content": "b"}, "x" * 1000), Rejection("format", "finish_reason: " + "x" * 60, retry=True)),
        (body({"content": "b"}, None), Rejection("format", "finish_reason: none", retry=True)),
        (body({"content": "<think>a"}), Rejection("format", "truncated: unclosed think", retry=True)),
        (body({"content": " \n", "reasoning": "a"}), Rejection("format", "empty-answer", retry=True)),
        (body({"content": None, "reasoning": "a"}), Rejection("format", "empty-answer", retry=True)),
    ],
)
def test_only_a_whole_answer_is_used(raw: bytes, rejection: Rejection | None) -> None:
    assert unusable(read(raw)) == rejection


def test_an_answer_broken_off_by_the_host_is_transient_and_one_out_of_tokens_is_not() -> None:
    for name in ("deepseek-out-of-resources", "openrouter-broken-off", "sglang-aborted"):
        path = Path(__file__).parent / "hosts" / f"{name}.json"
        assert read(path.read_bytes()).finish_reason in TRANSIENT_FINISH_REASONS
    assert not {"stop", "length", "content_filter", "tool_calls"} & TRANSIENT_FINISH_REASONS


CONTROL_TOKENS = [
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|fim_middle|>",
    "<｜end▁of▁sentence｜>",
    "<｜User｜>",
]
CONTROL_TOKENS += ["[INST]", "[/INST]", "<<SYS>>", "<start_of_turn>", "<think>", "</think>"]


@pytest.mark.parametrize("token", CONTROL_TOKENS)
def test_control_tokens_are_found(token: str) -> None:
    assert holds_control_token(f"a {token}b")


@pytest.mark.parametrize(
    "text", ["<|x|>", "a <| b |> c", "⟨ψ|φ⟩ and <|psi|>", "<i>m</i> < |M|", "[INSTRUCTIONS]", "if x<y｜z>x"]
)
def test_mathematics_is_no_control_token(text: str) -> None:
    assert not holds_control_token(text)


@pytest.mark.timeout(60)
def test_a_reply_of_10_mb_takes_linear_time() -> None:
    content = "<think>" * 700_000 + "<｜" * 700_000 + "<|im_" * 500_000
    completion = read(body({"content": content}))
    assert completion.reasoning_in == "unclosed-think"
    assert completion.reasoning is not None
    assert holds_control_token(completion.reasoning)
    assert not holds_control_token("<｜a" * 2_500_000 + "<|im_" * 500_000)
