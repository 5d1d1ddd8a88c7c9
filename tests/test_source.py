"""The source: every format and layout to the same records, and what it says of rows that it can't use."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r1k_builder.config import BuildConfig
from r1k_builder.embedded import BANK_VERSION
from r1k_builder.errors import SourceError
from r1k_builder.schema import GEMINI_TEACHER, ForwardExample, identify
from r1k_builder.source import DEEPSEEK_TEACHER, Source, open_source
from tests.hub_server import Repository, client_environment, serve_hub

QA = [{"question": f"What is {n} + {n}?", "solution": f"It is \\boxed{{{2 * n}}}."} for n in range(40)]

S1K_11 = {
    "question": "How many moons has Mars?",
    "solution": "Two: Phobos and Deimos.",
    "cot_type": "science",
    "source_type": "moons/mars",
    "metadata": "{}",
    "gemini_thinking_trajectory": "* Mars is a planet.",
    "gemini_attempt": "It has 2.",
    "deepseek_thinking_trajectory": "Okay, so Mars.\n\nWait.",
    "deepseek_attempt": "**2**",
    "deepseek_grade": "Yes",
}
S1K = {
    "question": "How many moons has Mars?",
    "solution": "Two: Phobos and Deimos.",
    "cot_type": "science",
    "source_type": "moons/mars",
    "thinking_trajectories": ["* Mars is a planet."],
    "attempt": "It has 2.",
}


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(source: Path | str, **settings: Any) -> tuple[list[ForwardExample], list[str]]:
    """Everything that the source yields, and the lines that it says."""
    lines: list[str] = []
    examples = list(open_source(BuildConfig(source=str(source), **settings), lines.append).examples())
    return examples, lines


def refuse(source: Path | str, **settings: Any) -> str:
    """The sentence by which the source is refused, when it is opened or at its end."""
    with pytest.raises(SourceError) as caught:
        read(source, **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ── formats ──


@pytest.mark.parametrize("name", ["qa.parquet", "qa.jsonl", "qa.json", "lines.json"])
def test_every_format_gives_the_same_examples(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".parquet"):
        write_parquet(path, QA)
    elif name == "qa.json":
        path.write_text(json.dumps(QA, indent=2))
    else:
        write_lines(path, QA)
    examples, lines = read(path)
    assert [(example.question, example.solution) for example in examples] == [(row["question"], row["solution"]) for row in QA]
    assert {(example.reasoning, example.teacher, example.domain) for example in examples} == {(None, None, "unknown")}
    assert lines == []


def test_a_folder_of_parquet_files_is_one_source(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data" / "train-00001-of-00002.parquet", QA[25:])
    write_parquet(tmp_path / "data" / "train-00000-of-00002.parquet", QA[:25])
    examples, _ = read(tmp_path / "data")
    assert [example.question for example in examples] == [row["question"] for row in QA]
    assert refuse(tmp_path) == f"{tmp_path} holds no .parquet file: give --source {tmp_path / 'data'}"


def test_files_of_a_folder_share_the_columns_that_count(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [{"question": "q", "solution": "s", "cot_type": "math"}])
    write_parquet(tmp_path / "b.parquet", [{"solution": "s", "question": "r"}])
    examples, _ = read(tmp_path)
    assert [(example.question, example.domain) for example in examples] == [("q", "unknown"), ("r", "unknown")]


def test_the_fingerprint_is_the_content(tmp_path: Path) -> None:
    def fingerprint(path: Path) -> str:
        return open_source(BuildConfig(source=str(path)), print).fingerprint

    first = fingerprint(write_lines(tmp_path / "a.jsonl", QA))
    assert first.startswith("sha256:")
    assert len(first) == len("sha256:") + 64
    assert fingerprint(write_lines(tmp_path / "b.jsonl", QA)) == first
    assert fingerprint(write_lines(tmp_path / "c.jsonl", QA[:-1])) != first

    write_parquet(tmp_path / "folder" / "a.parquet", QA[:1])
    alone = fingerprint(tmp_path / "folder")
    write_parquet(tmp_path / "folder" / "b.parquet", QA[1:])
    assert fingerprint(tmp_path / "folder") != alone


def test_text_is_kept_to_the_byte(tmp_path: Path) -> None:
    question, solution = "  α\r\n\u2028\x00{0} %s\t\n", "\n<b>$\\frac{1}{2}$</b>\x85 "
    for path in (tmp_path / "a.parquet", tmp_path / "a.jsonl"):
        write = write_parquet if path.suffix == ".parquet" else write_lines
        for settings in ({}, {"shuffle_seed": 1}):
            (example,), _ = read(write(path, [{"question": question, "solution": solution}]), **settings)
            assert (example.question, example.solution) == (question, solution)
            assert example.pair_id == identify(question, solution)


def test_a_lone_surrogate_becomes_encodable(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "half a \\ud83d smile", "answer": "yes"}\n')
    (example,), _ = read(path)
    assert example.question.encode().decode() == "half a \ufffd\ufffd\ufffd smile"


def test_rows_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    """A first row must not wait for, or hold, the ones after it: here a later file turns out to be damaged."""
    write_parquet(tmp_path / "a.parquet", QA)
    damaged = bytearray(write_parquet(tmp_path / "b.parquet", QA).read_bytes())
    damaged[4:40] = b"\xff" * 36
    (tmp_path / "b.parquet").write_bytes(damaged)
    examples = open_source(BuildConfig(source=str(tmp_path)), print).examples()
    assert len(list(islice(examples, len(QA)))) == len(QA)
    with pytest.raises(SourceError, match=r"b\.parquet can't be read as Parquet"):
        next(examples)


# ── columns ──


def test_s1k_11_gives_deepseek_forward_and_gemini_beside_it(tmp_path: Path) -> None:
    (example,), lines = read(write_parquet(tmp_path / "a.parquet", [S1K_11]))
    assert example == ForwardExample(
        question=S1K_11["question"],
        solution=S1K_11["solution"],
        reasoning=S1K_11["deepseek_thinking_trajectory"],
        answer=S1K_11["deepseek_attempt"],
        teacher=DEEPSEEK_TEACHER,
        gemini_reasoning=S1K_11["gemini_thinking_trajectory"],
        gemini_answer=S1K_11["gemini_attempt"],
        domain="science",
        source_type="moons/mars",
    )
    assert lines == []


def test_s1k_11_with_gemini_as_forward_teacher(tmp_path: Path) -> None:
    (example,), lines = read(write_parquet(tmp_path / "a.parquet", [S1K_11]), forward_teacher="gemini")
    assert (example.reasoning, example.answer) == ("* Mars is a planet.", "It has 2.")
    assert example.teacher == GEMINI_TEACHER
    assert (example.gemini_reasoning, example.gemini_answer) == (None, None)
    assert lines == []


def test_the_first_s1k_11_kept_its_responses_in_lists(tmp_path: Path) -> None:
    names = ("deepseek_thinking_trajectory", "deepseek_attempt")
    listed = S1K_11 | {name: [S1K_11[name]] for name in names}
    assert read(write_parquet(tmp_path / "a.parquet", [listed])) == read(write_parquet(tmp_path / "b.parquet", [S1K_11]))


def test_the_original_s1k_has_gemini_only(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [S1K])
    (example,), lines = read(path)
    assert (example.reasoning, example.answer, example.teacher) == (None, None, None)
    assert (example.gemini_reasoning, example.gemini_answer) == ("* Mars is a planet.", "It has 2.")
    (line,) = lines
    assert line.startswith("source: its reasoning is gemini's, not deepseek's, so the teacher writes the forward rows")
    assert "--forward-teacher gemini" in line
    (example,), lines = read(path, forward_teacher="gemini")
    assert (example.reasoning, example.answer, example.teacher) == ("* Mars is a planet.", "It has 2.", GEMINI_TEACHER)
    assert (example.gemini_reasoning, lines) == (None, [])


def test_deepseek_alone_is_not_taken_for_gemini(tmp_path: Path) -> None:
    row = {name: value for name, value in S1K_11.items() if not name.startswith("gemini")}
    (example,), lines = read(write_parquet(tmp_path / "a.parquet", [row]), forward_teacher="gemini")
    assert (example.reasoning, example.teacher, example.gemini_reasoning) == (None, None, None)
    assert len(lines) == 1
    assert "--forward-teacher deepseek" in lines[0]


@pytest.mark.parametrize(
    ("row", "solution"),
    [
        ({"problem": "q", "answer": "a"}, "a"),
        ({"problem": "q", "solution": "s", "answer": "a"}, "s"),
        ({"question": "q", "problem": "p", "answer": "a", "level": 3}, "a"),
    ],
)
def test_any_questions_and_answers(tmp_path: Path, row: dict[str, Any], solution: str) -> None:
    (example,), _ = read(write_lines(tmp_path / "a.jsonl", [row]))
    assert (example.question, example.solution, example.reasoning) == ("q", solution, None)


def test_named_columns_go_before_usual_ones(tmp_path: Path) -> None:
    row = {"question": "not this", "Frage.1": "q", "solution": "not this", "Antwort": "a"}
    path = write_parquet(tmp_path / "a.parquet", [row])
    (example,), _ = read(path, question_column="Frage.1", answer_column="Antwort")
    assert (example.question, example.solution) == ("q", "a")
    assert "no column Fragen; it has 'question', 'Frage.1'" in refuse(path, question_column="Fragen")


def test_a_dataset_of_ours_is_a_source(tmp_path: Path) -> None:
    row = {
        "question": "q",
        "reasoning": "r",
        "answer": "a",
        "reference_answer": "s",
        "teacher": "deepseek-r1-0528",
        "domain": "math",
    }
    (example, other), _ = read(write_lines(tmp_path / "a.jsonl", [row, row | {"question": "p", "teacher": None}]))
    assert (example.solution, example.reasoning, example.answer) == ("s", "r", "a")
    assert (example.teacher, example.domain) == ("deepseek-r1-0528", "math")
    assert (other.reasoning, other.teacher) == ("r", None)


@pytest.mark.parametrize(
    ("column", "expected"), [("cot_type", "optics"), ("domain", "optics"), ("subject", "optics"), ("topic", "unknown")]
)
def test_domain_columns(tmp_path: Path, column: str, expected: str) -> None:
    (example,), _ = read(write_lines(tmp_path / "a.jsonl", [QA[0] | {column: "optics", "source": "book"}]))
    assert (example.domain, example.source_type) == (expected, "book")


def test_columns_of_json_lines_are_those_of_all_rows(tmp_path: Path) -> None:
    late = {name: S1K_11[name] for name in ("question", "solution", "deepseek_thinking_trajectory", "deepseek_attempt")}
    examples, lines = read(write_lines(tmp_path / "a.jsonl", [*QA, late]))
    assert [example.reasoning for example in examples if example.reasoning] == [late["deepseek_thinking_trajectory"]]
    assert lines == []


# ── limit, domain, shuffle ──


def test_a_limit_is_a_prefix(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", QA)
    for seed in (None, 0, 7):
        whole, _ = read(path, shuffle_seed=seed)
        for limit in (1, 13, 40, 100):
            assert read(path, shuffle_seed=seed, limit=limit)[0] == whole[:limit]


def test_a_seed_shuffles(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [row | {"source": "büch\n"} for row in QA])
    plain, _ = read(path)
    first, _ = read(path, shuffle_seed=1)
    assert first == read(path, shuffle_seed=1)[0]
    assert sorted(first, key=lambda example: example.pair_id) == sorted(plain, key=lambda example: example.pair_id)
    assert plain != first != read(path, shuffle_seed=2)[0]
    assert sum(before == after for before, after in zip(plain, first, strict=True)) < 10


def test_an_added_row_moves_no_other_in_the_shuffle(tmp_path: Path) -> None:
    new = {"question": "new", "solution": "row"}
    before, _ = read(write_lines(tmp_path / "a.jsonl", QA), shuffle_seed=3)
    after, _ = read(write_lines(tmp_path / "b.jsonl", [*QA[:20], new, *QA[20:]]), shuffle_seed=3)
    assert [example for example in after if example.question != "new"] == before


def test_a_full_disk_while_shuffling_is_a_local_error(tmp_path: Path) -> None:
    """Nothing may be longer than 1,000 bytes in this process: what is written past them fails like on a full disk."""
    path = write_lines(tmp_path / "a.jsonl", QA)
    code = (
        "import resource\n"
        "from r1k_builder.config import BuildConfig\n"
        "from r1k_builder.errors import LocalError\n"
        "from r1k_builder.source import open_source\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        f"    list(open_source(BuildConfig(source={str(path)!r}, shuffle_seed=1), print).examples())\n"
        "except LocalError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (
        done.stdout
        == "the shuffled source can't be kept in a temporary file (File too large): set TMPDIR to a folder with room\n"
    )
    assert done.stderr == ""


def test_the_limit_counts_rows_of_the_domain(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [row | {"domain": "odd" if n % 2 else "even"} for n, row in enumerate(QA)])
    examples, lines = read(path, domain="odd", limit=5)
    assert [example.question for example in examples] == [QA[n]["question"] for n in (1, 3, 5, 7, 9)]
    assert lines == []
    assert refuse(path, domain="prime").endswith("has the domain 'prime': give --domain one of 'even', 'odd', or drop it")


def test_a_domain_needs_a_column(tmp_path: Path) -> None:
    assert "drop --domain" in refuse(write_lines(tmp_path / "a.jsonl", QA), domain="math")


# ── rows at fault ──

GOOD = {"question": "fine", "solution": "yes"}


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"question": "q", "solution": ""}, "column 'solution' is empty; skipped"),
        ({"question": " \n", "solution": "s"}, "column 'question' is empty; skipped"),
        ({"question": "q", "solution": None}, "column 'solution' is empty; skipped"),
        ({"solution": "s"}, "column 'question' is empty; skipped"),
        ({"question": "q", "solution": float("nan")}, "column 'solution' is empty; skipped"),
        ({"question": "q", "solution": float("inf")}, "column 'solution' is infinite; skipped"),
        ({"question": ["q"], "solution": "s"}, "column 'question' is of type list, not text; skipped"),
        ({"question": "q", "solution": {"a": 1}}, "column 'solution' is of type dict, not text; skipped"),
        ({"question": "q", "solution": True}, "column 'solution' is a boolean; skipped"),
        ([1, 2], "not a JSON object; skipped"),
        ("text", "not a JSON object; skipped"),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_row_at_fault_is_named_and_stops_nothing(tmp_path: Path, name: str, row: object, line: str) -> None:
    path = tmp_path / name
    rows = [GOOD, row, GOOD | {"question": "fine too"}]
    if name == "a.json":
        path.write_text(json.dumps(rows))
    else:
        write_lines(path, rows)
    examples, lines = read(path)
    assert [example.question for example in examples] == ["fine", "fine too"]
    assert lines == [f"source {'row' if name == 'a.json' else 'line'} 2: {line}"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"question": "q", "solution": "s"',
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"solution": ' + b"9" * 5000 + b"}",
        b"\x00\x00",
        b"null",
    ],
    ids=["torn", "utf-16", "nested", "huge-number", "nul", "null"],
)
def test_a_malformed_line_is_named_and_stops_nothing(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\n" + line + b"\n" + json.dumps(QA[0]).encode())
    examples, lines = read(path)
    assert [example.question for example in examples] == ["fine", QA[0]["question"]]
    assert lines == ["source line 3: not a JSON object; skipped"]


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf " + json.dumps(QA).encode())
    assert len(read(tmp_path / "a.json")[0]) == len(QA)


def test_numbers_become_text(tmp_path: Path) -> None:
    rows = [{"problem": "q", "answer": 204}, {"problem": "r", "answer": 0.5}]
    for path in (write_lines(tmp_path / "a.jsonl", rows), write_parquet(tmp_path / "a.parquet", [rows[0]])):
        examples, lines = read(path)
        assert [example.solution for example in examples] == ["204", "0.5"][: len(examples)]
        assert lines[0].endswith(" 1: column 'answer' is a number, taken as text")
        assert len(lines) == len(examples)


def test_parquet_types_that_are_no_text(tmp_path: Path) -> None:
    def read_column(values: pa.Array) -> tuple[list[str], list[str]]:
        table = pa.table({"question": pa.array([f"q{n}" for n in range(len(values))]), "solution": values})
        pq.write_table(table, tmp_path / "a.parquet")
        examples, lines = read(tmp_path / "a.parquet")
        return [example.solution for example in examples], [line.partition("'solution' ")[2] for line in lines]

    assert read_column(pa.array([b"caf\xc3\xa9", b"\xff"], pa.binary())) == (
        ["café"],
        ["is bytes, taken as UTF-8 text", "is not UTF-8 text; skipped"],
    )
    broken = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.array([0, 2, 4, 6], pa.int32()).buffers()[1], pa.py_buffer(b"ok\xff\xfeok")]
    )
    assert read_column(broken) == (["ok", "ok"], ["is not UTF-8 text; skipped"])
    assert read_column(pa.array(["a", "b", "a"]).dictionary_encode()) == (["a", "b", "a"], [])
    moments = pa.array([0, 2**62], pa.timestamp("ms"))
    with pytest.raises(SourceError, match="can be used"):
        read_column(moments)


def test_exact_repeats_are_named_and_the_first_is_kept(tmp_path: Path) -> None:
    rows = [GOOD | {"source": "first"}, QA[0], GOOD | {"source": "second"}, GOOD | {"solution": "yes "}]
    examples, lines = read(write_lines(tmp_path / "a.jsonl", rows))
    assert [(example.solution, example.source_type) for example in examples] == [
        ("yes", "first"),
        (QA[0]["solution"], "unknown"),
        ("yes ", "unknown"),
    ]
    assert lines == ["source line 3: question and solution repeat an earlier row exactly; skipped"]


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"deepseek_attempt": ""}, ["column 'deepseek_attempt' is empty, so 'deepseek_thinking_trajectory' is not used"]),
        (
            {"deepseek_thinking_trajectory": None},
            ["column 'deepseek_thinking_trajectory' is empty, so 'deepseek_attempt' is not used"],
        ),
        ({"deepseek_thinking_trajectory": None, "deepseek_attempt": " "}, []),
        (
            {"deepseek_thinking_trajectory": ["a", "b"]},
            [
                "column 'deepseek_thinking_trajectory' is of type list, not text; not used",
                "column 'deepseek_thinking_trajectory' is empty, so 'deepseek_attempt' is not used",
            ],
        ),
    ],
)
def test_half_a_response_is_none(tmp_path: Path, change: dict[str, Any], lines: list[str]) -> None:
    (example,), said = read(write_lines(tmp_path / "a.jsonl", [S1K_11 | change]))
    assert (example.reasoning, example.answer, example.teacher) == (None, None, None)
    assert example.gemini_answer == "It has 2."
    assert said == [f"source line 1: {line}" for line in lines]


def test_a_label_at_fault_is_unknown(tmp_path: Path) -> None:
    (example,), lines = read(write_lines(tmp_path / "a.jsonl", [QA[0] | {"cot_type": ["math", "physics"], "source_type": ""}]))
    assert (example.domain, example.source_type) == ("unknown", "unknown")
    assert lines == ["source line 1: column 'cot_type' is of type list, not text; not used"]


def test_lines_of_one_kind_are_counted_after_twenty(tmp_path: Path) -> None:
    rows = [*({"question": "q", "solution": ""} for _ in range(50)), {"question": ""}, *QA]
    path = write_lines(tmp_path / "a.jsonl", rows)
    expected = [f"source line {n}: column 'solution' is empty; skipped" for n in range(1, 21)]
    expected += ["source line 51: column 'question' is empty; skipped"]
    assert read(path)[1] == [*expected, "source: … and 30 more: column 'solution' is empty; skipped"]

    lines: list[str] = []
    examples = open_source(BuildConfig(source=str(path), limit=3), lines.append).examples()
    assert len(list(islice(examples, 3))) == 3  # and never asks for a fourth
    assert lines[-1].startswith("source: … and 30 more")


# ── sources at fault ──


def test_what_is_no_source_is_refused_in_a_sentence(tmp_path: Path) -> None:
    assert "gone.parquet does not exist: give --source" in refuse("gone.parquet")
    assert "./gone does not exist" in refuse("./gone")
    assert "gone does not exist" in refuse("gone")
    assert "~nobody-here/a can't be read" in refuse("~nobody-here/a")
    assert "can't be read" in refuse("a" * 5000)
    assert "does not exist" in refuse("nul\0.json")
    (tmp_path / "a.csv").write_text("question,solution\n1,2\n")
    assert "is none of .parquet, .json, .jsonl: convert it" in refuse(tmp_path / "a.csv")
    assert "holds no .parquet file" in refuse(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no Parquet", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_a_damaged_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    assert "a.parquet can't be read as Parquet" in refuse(tmp_path / "a.parquet")


def test_a_parquet_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", QA)
    path.write_bytes(path.read_bytes()[:-20])
    assert "fetch or write it again" in refuse(path)


def test_a_parquet_whose_column_names_are_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(QA), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"question", b"questio\xff"))
    assert "can't be read as Parquet" in refuse(path)


@pytest.mark.parametrize("content", ['[{"question": "q"}', "[" * 100_000, '[{"question": "q", "answer": "a"},]'])
def test_a_damaged_json_array_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    assert "a.json is not valid JSON" in refuse(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", ""), ("a.jsonl", "\n\n"), ("a.json", "[]"), ("a.json", ""), ("a.jsonl", "[1]\n")]
)
def test_an_empty_source_is_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert f"{name} has no rows" in refuse(tmp_path / name)


def test_a_parquet_without_rows_is_refused(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"question": pa.array([], pa.string()), "answer": pa.array([], pa.string())}), tmp_path / "a.parquet"
    )
    assert "a.parquet has no rows" in refuse(tmp_path / "a.parquet")
    assert "a.parquet has no rows" in refuse(tmp_path / "a.parquet", shuffle_seed=1)


def test_a_source_without_a_usable_row_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [{"question": "q", "solution": ""}])
    assert "can be used (see above)" in refuse(path)


def test_a_source_without_the_columns_is_refused_at_once(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [{"prompt": "q", "a\n\x1b[2J": "a", "y" * 500: ""}])
    with pytest.raises(SourceError) as caught:
        open_source(BuildConfig(source=str(path)), print)
    message = str(caught.value)
    assert "has no column question or problem; it has 'prompt', 'a\\n\\x1b[2J', 'yyy" in message
    assert message.endswith("--question-column NAME --answer-column NAME")
    assert len(message) < len(str(path)) + 300
    path = write_parquet(tmp_path / "b.parquet", [{"question": "q", "prompt": "a"}])
    assert "solution or answer; it has 'question', 'prompt'" in refuse(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch(mode=0)
    assert "can't be read" in refuse(tmp_path / name)


# ── the embedded bank ──


def test_the_embedded_bank_is_a_source() -> None:
    def draw(**settings: Any) -> tuple[str, list[ForwardExample]]:
        source = open_source(BuildConfig(source="embedded", **settings), print)
        return source.fingerprint, list(source.examples())

    fingerprint, examples = draw(limit=50)
    assert fingerprint == f"embedded:{BANK_VERSION}:train:0"
    assert len({example.pair_id for example in examples}) == 50
    assert draw(limit=80)[1][:50] == examples
    for settings in ({"shuffle_seed": 4}, {"split": "heldout"}):
        other, drawn = draw(limit=50, **settings)
        assert other != fingerprint
        assert drawn != examples
    assert {example.domain for example in draw(limit=20, domain="physics")[1]} == {"physics"}
    with pytest.raises(SourceError, match=r"no row of embedded has the domain 'poetry': give --domain one of '\w+', "):
        draw(domain="poetry")


def test_without_a_limit_the_embedded_bank_gives_a_thousand() -> None:
    examples = open_source(BuildConfig(source="embedded"), print).examples()
    assert sum(1 for _ in examples) == 1000


def endless(repeat_after: int) -> Iterator[tuple[str, ForwardExample]]:
    return ((f"row {n}", ForwardExample(question=f"q{n % repeat_after}", solution="s", domain="physics")) for n in count(1))


def test_an_exhausted_bank_ends() -> None:
    config = BuildConfig(source="embedded", limit=1000)
    source = Source("bank", config, lambda _: None, lambda _: endless(repeat_after=300), patience=100)
    assert len(list(source.examples())) == 300


def test_a_bank_without_the_domain_is_refused() -> None:
    config = BuildConfig(source="embedded", domain="poetry")
    source = Source("bank", config, lambda _: None, lambda _: endless(repeat_after=10**9), patience=100)
    with pytest.raises(SourceError, match="give --domain one of 'physics'"):
        list(source.examples())


# ── the Hub ──

CLIENT = """
import json, sys
from r1k_builder.config import BuildConfig
from r1k_builder.errors import SourceError
from r1k_builder.source import open_source
for source in sys.argv[1:]:
    lines = []
    try:
        opened = open_source(BuildConfig(source=source), lines.append)
        questions = [example.question for example in opened.examples()]
        print(json.dumps([opened.fingerprint, questions, lines]))
    except SourceError as error:
        print(json.dumps(str(error)))
"""


def ask_hub(environment: dict[str, str], *sources: str) -> list[Any]:
    """What a builder of its own process makes of each source: fingerprint, questions and lines, or the sentence."""
    command = [sys.executable, "-c", CLIENT, *sources]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def repository(
    folder: Path, files: dict[str, list[dict[str, Any]] | bytes], configs: str = "", *, gated: bool = False
) -> Repository:
    folder.mkdir()
    (folder / "README.md").write_text(f"---\nlicense: mit\n{configs}---\n# A dataset\n")
    for name, content in files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            write_parquet(folder / name, content)
    return Repository(folder, gated=gated)


def test_a_hub_dataset_is_read_at_a_commit(tmp_path: Path) -> None:
    configs = "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n"
    rows = [*QA, QA[0], QA[1] | {"solution": ""}]
    with serve_hub(s__qa=repository(tmp_path / "qa", {"data/train-00000-of-00001.parquet": rows}, configs)) as hub:
        environment = client_environment(hub, tmp_path / "home")
        (first,) = ask_hub(environment, "s/qa")
        commit = hub.repositories["s/qa"].sha
        assert first == [
            f"hub:s/qa@{commit}",
            [row["question"] for row in QA],
            [
                "source row 41: question and solution repeat an earlier row exactly; skipped",
                "source row 42: column 'solution' is empty; skipped",
            ],
        ]
        assert not any("resolve/main" in request for request in hub.requests)

        write_parquet(tmp_path / "qa" / "data" / "train-00000-of-00001.parquet", QA[:3])
        (second,) = ask_hub(environment, "s/qa")
        assert second == [f"hub:s/qa@{hub.repositories['s/qa'].sha}", [row["question"] for row in QA[:3]], []]
        assert second[0] != first[0]


def test_a_hub_dataset_that_is_no_source_is_refused_in_a_sentence(tmp_path: Path) -> None:
    two = "configs:\n- config_name: easy\n  data_files: easy.parquet\n- config_name: hard\n  data_files: hard.parquet\n"
    test_only = "configs:\n- config_name: default\n  data_files:\n  - split: test\n    path: test.parquet\n"
    hub_of = {
        "s__two": repository(tmp_path / "two", {"easy.parquet": QA, "hard.parquet": QA}, two),
        "s__test": repository(tmp_path / "test", {"test.parquet": QA}, test_only),
        "s__gated": repository(tmp_path / "gated", {"train.parquet": QA}, gated=True),
        "s__damaged": repository(tmp_path / "damaged", {"train.parquet": b"no Parquet"}),
        "s__nothing": repository(tmp_path / "nothing", {}),
        "s__columns": repository(tmp_path / "columns", {"train.parquet": [{"text": "t"}]}),
    }
    with serve_hub(**hub_of) as hub:
        environment = client_environment(hub, tmp_path / "home")
        asked = ask_hub(environment, "s/none", "s/two", "s/test", "s/gated", "s/damaged", "s/nothing", "s/columns")
        offline = ask_hub(environment | {"HF_HUB_OFFLINE": "1"}, "s/two")
    unreachable = ask_hub(environment, "s/two")
    expected = [
        "s/none is neither a file here nor a dataset on the Hub: check --source",
        "s/two has several configurations ('easy', 'hard') and no default: choose one and give --source",
        "s/test has no split 'train', only 'test': choose one and give --source",
        f"s/gated is gated: ask for access at {hub.url}/datasets/s/gated, then type `hf auth login`",
        "s/damaged can't be loaded (",
        "s/nothing can't be loaded (",
        "s/columns has no column question or problem; it has 'text'",
        "s/two is on the Hub, and HF_HUB_OFFLINE is set",
        "the Hub can't be reached for s/two: check the network",
    ]
    for sentence, beginning in zip([*asked, *offline, *unreachable], expected, strict=True):
        assert sentence.startswith(beginning), sentence
        assert "\n" not in sentence
