"""The dataset folder, read back with the library that its readers use."""

import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import Dataset, Features, load_dataset
from jinja2 import UndefinedError
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from r1k_builder import columns
from r1k_builder.card import merge_card
from r1k_builder.columns import SCHEMAS
from r1k_builder.config import BuildConfig
from r1k_builder.errors import LocalError, UsageError
from r1k_builder.export import BATCH_ROWS, Batch, DatasetWriter, prepare, write_dataset
from r1k_builder.files import CARD, Shelf, place_card, place_files, sweep
from r1k_builder.lengths import load_ruler
from r1k_builder.schema import (
    CHECKS,
    CheckResult,
    Direction,
    Example,
    ForwardExample,
    Outcome,
    Provenance,
    RejectedRow,
    Verdict,
)

FACTS = {
    "version": "0.1.0",
    "source_fingerprint": "5f3a",
    "prompt_versions": {"invert": "1", "solve": "1"},
    "requests": 12,
    "cost": "0.25",
    "tokens": {"prompt": 40, "completion": 900},
    "asked": ("2026-11-01", "2026-11-02"),
    "returned_models": {"r1": 12},
    "replayed": None,
    "benchmarks": {},
}
PLAIN = BuildConfig(tokenizer="none")
FROM_ROWS = {name: schema for name, schema in SCHEMAS.items() if name != "completions"}
"""The configurations that outcomes make; `completions` is made of the journal (test_completions)."""
INDEPENDENT = BuildConfig(tokenizer="none", control="independent")
TEXTS = (
    r"$\frac{1}{2}$ \boxed{½}",
    "naïve 日本語 🙂 e\u0301",
    "a\x00b",
    "</think>\n---\n<script>",
    "line\r\nline\u2028",
    "{0} %s {{x}}",
)
PASSED: Verdict = {check: CheckResult(status="pass") for check in CHECKS}


def example(source: ForwardExample, direction: Direction, number: int, salt: str = "", verdict: Verdict = PASSED) -> Example:
    text = TEXTS[number % len(TEXTS)]
    return Example(
        id=f"{source.pair_id}-{direction}",
        pair_id=source.pair_id,
        direction=direction,
        question=source.question if direction == "forward" else f"What gives {number}? {text}",
        reasoning=f"{direction} {number} {text} " * (1 + number * 7 % 11),
        answer=f"{text}{salt}",
        final_answer=None if number % 3 else str(number),
        reference_answer=f"{number}",
        domain=source.domain,
        source_type="tests",
        teacher=None if number % 4 == 0 else "r1",
        verdict=verdict,
        provenance=Provenance(solve_key=f"{number:064x}", host="h", completion_tokens=number) if number % 2 else Provenance(),
    )


def rejected(source: ForwardExample, direction: Direction, reason: str) -> RejectedRow:
    return RejectedRow(
        id=f"{source.pair_id}-{direction}",
        pair_id=source.pair_id,
        direction=direction,
        question=None,
        check="format",
        reason=reason,
        stage="invert",
        reasoning=None,
        text="no \x00 idea",
        domain=source.domain,
        source_type="tests",
        verdict={},
        provenance=Provenance(),
    )


def source_row(number: int, domain: str | None = None) -> ForwardExample:
    domain = domain or ("math", "science")[number % 2]
    return ForwardExample(question=f"What is {number}? {TEXTS[number % len(TEXTS)]}", solution=str(number), domain=domain)


def accepted(number: int, salt: str = "", domain: str | None = None) -> Outcome:
    source = source_row(number, domain)
    return Outcome(source, example(source, "forward", number, salt), example(source, "reverse", number, salt))


def outcomes(count: int, salt: str = "") -> list[Outcome]:
    return [accepted(number, salt) for number in range(count)]


def mixture() -> list[Outcome]:
    """20 accepted pairs, and among them one of every other kind of outcome."""
    one, two, three, four, five, six = (source_row(number) for number in range(100, 106))
    failed: Verdict = PASSED | {"boxed": CheckResult(status="fail", reason="no box")}
    others = [
        Outcome(one, example(one, "forward", 100), rejected(one, "reverse", "no new question: nothing to read")),
        Outcome(two, rejected(two, "forward", "truncated: finish_reason length"), example(two, "reverse", 101)),
        Outcome(three, rejected(three, "forward", "truncated: by the host"), rejected(three, "reverse", "truncated (twice)")),
        Outcome(four, example(four, "forward", 103), None),
        Outcome(five, None, None),
        Outcome(
            six,
            example(six, "forward", 105),
            example(six, "reverse", 105, verdict=failed),
            example(six, "forward", 105, " g"),
            replaced=(rejected(six, "reverse", "no new question: nothing to read").model_copy(update={"id": "6-reverse-1"}),),
        ),
    ]
    return [*outcomes(10), *others, *(accepted(number) for number in range(10, 19))]


def write(rows: Iterable[Outcome], folder: Path, config: BuildConfig = PLAIN) -> dict[str, Any]:
    return write_dataset(rows, folder, config, FACTS)


def load(folder: Path, config: str | None = None) -> Dataset:
    return load_dataset(str(folder), config, split="train", cache_dir=str(folder.parent / "cache"))


def texts(turns: Sequence[Any]) -> str:
    """The content of a conversation of one turn."""
    (turn,) = turns
    return str(turn["content"])


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything in the folder but `.build`, by path."""
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {str(name): path.read_bytes() for name, path in found.items() if name.parts[0] != ".build"}


# ----- what is in the configurations


def test_every_configuration_loads_twice_and_anew_after_a_rebuild(tmp_path: Path) -> None:
    folder = tmp_path / "r1k"
    for salt in ("", " again"):
        manifest = write([*mixture(), *(accepted(number, salt) for number in range(200, 206))], folder)
        for name in FROM_ROWS:
            for _ in range(2):
                loaded = load(folder, name)
                assert loaded.num_rows == manifest["configs"][name]["rows"] > 0
                assert loaded.column_names == SCHEMAS[name].names
        assert load(folder).num_rows == manifest["configs"]["reverse"]["rows"], "the default configuration"
        assert load(folder, "mixed")[-1]["answer"] == TEXTS[205 % len(TEXTS)] + salt


def test_rows_hold_every_field_to_the_character(tmp_path: Path) -> None:
    rows = outcomes(13)
    write(rows, tmp_path / "r1k")
    for name in ("forward", "reverse"):
        for row, outcome in zip(load(tmp_path / "r1k", name), rows, strict=True):
            side = getattr(outcome, name)
            expected = side.model_dump() | {"prompt": side.prompt, "completion": side.completion, "num_tokens": None}
            assert row == expected
    mixed = load(tmp_path / "r1k", "mixed")
    assert mixed["id"] == [f"{outcome.source.pair_id}-{name}" for outcome in rows for name in ("forward", "reverse")]
    assert mixed[3] == load(tmp_path / "r1k", "reverse")[1]


def test_each_outcome_ends_where_it_belongs(tmp_path: Path) -> None:
    manifest = write(mixture(), tmp_path / "r1k")
    assert manifest["rows"] == {"read": 25, "accepted": 20, "rejected": 3, "failed": 2}
    rows = {name: entry["rows"] for name, entry in manifest["configs"].items()}
    assert rows == {
        "reverse": 21,
        "reverse-verified": 20,
        "forward": 22,
        "forward-gemini": 1,
        "mixed": 40,
        "mixed-500": 40,
        "preference": 40,
        "preference-control": 40,
        "probe": 40,
        "rejected": 4,
        "attempts": 1,
        "completions": 0,
    }
    assert manifest["rejections"] == {"format: truncated": 3, "format: no new question": 1}
    for check, counts in manifest["verification"]["checks"].items():
        found = Counter(row["verdict"][check]["status"] for row in load(tmp_path / "r1k", "reverse"))
        assert Counter(counts) == found, check
    assert manifest["teachers"] == {"forward": {"r1": 16, "unknown": 6}, "reverse": {"r1": 16, "unknown": 5}}
    turned_down = load(tmp_path / "r1k", "rejected")
    assert turned_down[0]["text"] == "no \x00 idea"
    assert turned_down[0]["verdict"]["copy"] == {"status": "not-run", "reason": None}
    assert source_row(105).pair_id not in load(tmp_path / "r1k", "reverse-verified")["pair_id"]
    assert texts(load(tmp_path / "r1k", "forward-gemini")[0]["completion"]).endswith(" g")


def test_what_a_judge_has_settled_is_not_untold(tmp_path: Path) -> None:
    """The check's own `unknown` stays in its column; a row rests on it only where the judge can't tell either."""
    open_check: Verdict = PASSED | {"reversed": CheckResult(status="unknown", reason="no sign either way")}
    untold: Verdict = open_check | {"judge_reversed": CheckResult(status="unknown", reason="no verdict")}
    other: Verdict = PASSED | {"hedged": CheckResult(status="unknown")}
    rows = []
    for number, verdict in enumerate((open_check, untold, other, PASSED)):
        source = source_row(number)
        rows.append(Outcome(source, example(source, "forward", number), example(source, "reverse", number, verdict=verdict)))
    manifest = write(rows, tmp_path / "r1k")
    assert manifest["verification"]["untold"] == 2
    assert manifest["verification"]["checks"]["reversed"]["unknown"] == 2
    assert manifest["configs"]["reverse-verified"]["rows"] == 4


def test_preference_has_the_right_response_on_each_side(tmp_path: Path) -> None:
    rows = mixture()
    write(rows, tmp_path / "r1k")
    pairs = [row for row in rows if row.state == "accepted"]
    loaded = list(load(tmp_path / "r1k", "preference"))
    for forward, reverse, outcome in zip(loaded[::2], loaded[1::2], pairs, strict=True):
        ahead, back = outcome.forward, outcome.reverse
        assert isinstance(ahead, Example)
        assert isinstance(back, Example)
        assert (forward["prompt"], forward["chosen"], forward["rejected"]) == (ahead.prompt, ahead.completion, back.completion)
        assert (reverse["prompt"], reverse["chosen"], reverse["rejected"]) == (back.prompt, back.completion, ahead.completion)
        assert (forward["id"], reverse["id"]) == (ahead.id, back.id)


def test_the_control_differs_in_the_rejected_response_alone(tmp_path: Path) -> None:
    rows = outcomes(24)
    write(rows, tmp_path / "r1k")
    origin = {texts(side.completion): side for row in rows for side in (row.forward, row.reverse) if isinstance(side, Example)}
    for pair, control in zip(load(tmp_path / "r1k", "preference"), load(tmp_path / "r1k", "preference-control"), strict=True):
        assert {key: value for key, value in pair.items() if key != "rejected"} == {
            key: value for key, value in control.items() if key != "rejected"
        }
        own, other = origin[texts(pair["rejected"])], origin[texts(control["rejected"])]
        assert other.pair_id != own.pair_id
        assert (other.direction, other.domain) == (own.direction, own.domain)
        candidates = [side for side in origin.values() if (side.direction, side.domain) == (own.direction, own.domain)]
        length = len(texts(own.completion))
        gaps = [abs(len(texts(side.completion)) - length) for side in candidates if side.pair_id != own.pair_id]
        assert abs(len(texts(other.completion)) - length) == min(gaps)


def test_the_probe_holds_the_shortest_in_source_order(tmp_path: Path) -> None:
    rows = random.Random(1).sample(outcomes(80), 80)
    write(rows, tmp_path / "r1k")
    probe = list(load(tmp_path / "r1k", "probe"))
    lengths = {
        row.source.pair_id: len(row.forward.question + row.forward.reasoning + row.forward.answer)
        for row in rows
        if isinstance(row.forward, Example)
    }
    shortest = set(sorted(lengths, key=lambda pair_id: (lengths[pair_id], pair_id))[:50])
    assert [row["pair_id"] for row in probe[::2]] == [pair_id for pair_id in lengths if pair_id in shortest]
    preference = {row["id"]: row for row in load(tmp_path / "r1k", "preference")}
    for row in probe:
        assert (row["preferred"], row["dispreferred"]) == (preference[row["id"]]["chosen"], preference[row["id"]]["rejected"])


def test_independent_control_joins_rows_of_other_pairs(tmp_path: Path) -> None:
    rows = [*outcomes(12), accepted(500, domain="crossword"), *(accepted(number) for number in range(12, 20))]
    manifest = write(rows, tmp_path / "r1k", INDEPENDENT)
    assert manifest["control"] == "independent"
    assert any("alone in their domain" in note and note.endswith(": 1") for note in manifest["notes"])
    assert "--control independent" in (tmp_path / "r1k" / CARD).read_text()
    assert [manifest["configs"][name]["rows"] for name in ("forward", "reverse", "mixed", "preference")] == [21, 21, 40, 40]
    mixed = list(load(tmp_path / "r1k", "mixed"))
    joined = [row.source.pair_id for row in rows if row.source.domain != "crossword"]
    assert [row["pair_id"] for row in mixed[::2]] == joined, "forward rows in source order"
    assert sorted(row["pair_id"] for row in mixed[1::2]) == sorted(joined), "each reverse row once"
    preferences = list(load(tmp_path / "r1k", "preference"))
    controls = list(load(tmp_path / "r1k", "preference-control"))
    for forward, reverse, one, other, control in zip(
        mixed[::2], mixed[1::2], preferences[::2], preferences[1::2], controls[::2], strict=True
    ):
        assert forward["pair_id"] != reverse["pair_id"]
        assert forward["domain"] == reverse["domain"]
        assert (one["chosen"], one["rejected"]) == (forward["completion"], reverse["completion"])
        assert (other["id"], other["prompt"]) == (reverse["id"], reverse["prompt"])
        assert (other["chosen"], other["rejected"]) == (reverse["completion"], forward["completion"])
        assert control["rejected"] not in (forward["completion"], reverse["completion"])
    reverse_rows = {row["id"]: row for row in load(tmp_path / "r1k", "reverse")}
    assert all(row == reverse_rows[row["id"]] for row in mixed[1::2])


def test_few_pairs_are_all_taken_and_noted(tmp_path: Path) -> None:
    _, *notes = write(outcomes(3), tmp_path / "r1k")["notes"]
    assert notes == [
        "mixed-500 holds all 3 pairs: there are fewer than 500",
        "probe holds all 3 pairs: there are fewer than 50",
        "rows of preference-control whose rejected response is from another domain: 2",
    ]
    assert all(f"- {note}\n" in (tmp_path / "r1k" / CARD).read_text() for note in notes)


def test_a_single_pair_has_no_control(tmp_path: Path) -> None:
    manifest = write(outcomes(1), tmp_path / "r1k")
    assert manifest["configs"]["preference-control"] == {"rows": 0, "files": []}
    assert any("preference-control lacks" in note and note.endswith(": 2") for note in manifest["notes"])
    assert load(tmp_path / "r1k", "preference").num_rows == 2


def test_rows_keep_their_order_over_chunks_groups_and_files(tmp_path: Path) -> None:
    rows = outcomes(4200)
    manifest = write(rows, tmp_path / "r1k")
    files = [tmp_path / "r1k" / file["path"] for file in manifest["configs"]["mixed"]["files"]]
    assert [path.name[:20] for path in files] == ["train-00000-of-00002", "train-00001-of-00002"]
    for path in files:
        metadata = pq.ParquetFile(path).metadata
        assert all(metadata.row_group(group).num_rows <= 1000 for group in range(metadata.num_row_groups))
    expected = [f"{row.source.pair_id}-{name}" for row in rows for name in ("forward", "reverse")]
    for name in ("mixed", "preference"):
        assert load(tmp_path / "r1k", name)["id"] == expected
    chosen = set(load(tmp_path / "r1k", "mixed-500")["pair_id"])
    draws = sorted((row.source.pair_id for row in rows), key=lambda pair_id: hashlib.sha256(f"0:{pair_id}".encode()).digest())
    assert chosen == set(draws[:500])


def test_long_rows_fill_chunks_before_their_number(tmp_path: Path) -> None:
    rows = outcomes(6)
    long = [
        Outcome(row.source, row.forward.model_copy(update={"reasoning": "π " * 800_000}), row.reverse)
        for row in rows
        if isinstance(row.forward, Example)
    ]
    manifest = write(long, tmp_path / "r1k")
    (file,) = manifest["configs"]["forward"]["files"]
    assert pq.ParquetFile(tmp_path / "r1k" / file["path"]).num_row_groups > 1
    assert load(tmp_path / "r1k", "preference")["id"] == [
        f"{row.source.pair_id}-{name}" for row in rows for name in ("forward", "reverse")
    ]


def test_a_shelf_keeps_its_records_while_it_is_read_and_filled_by_turns(tmp_path: Path) -> None:
    records = [os.urandom(number * 37 % 101 + 1) for number in range(40)]
    shelf = Shelf(tmp_path)
    for number, record in enumerate(records):
        shelf.extend([pa.py_buffer(record)])
        assert shelf.read(number // 3).to_pybytes() == records[number // 3]
    assert [shelf.read(place).to_pybytes() for place in range(40)] == records
    assert len(shelf) == len(records) == 40
    shelf.close()


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("config", [PLAIN, INDEPENDENT], ids=["none", "independent"])
def test_batches_prepared_in_any_order_and_saved_give_the_same_files(config: BuildConfig, tmp_path: Path, packed: bool) -> None:
    rows = [*mixture(), *(accepted(number) for number in range(200, 400))]
    batches = [rows[start : start + BATCH_ROWS] for start in range(0, len(rows), BATCH_ROWS)]
    with DatasetWriter(tmp_path, config) as writer:
        for number in reversed(range(len(batches))):
            prepare(batches[number], writer.ruler).save(tmp_path / f"{number}.batch", packed=packed)
        for number in range(len(batches)):
            batch = Batch.load(tmp_path / f"{number}.batch")
            (tmp_path / f"{number}.batch").unlink()
            writer.put(batch)
        assert writer.finish() == write(rows, tmp_path / "r1k", config)


def test_a_packed_batch_takes_less_room(tmp_path: Path) -> None:
    batch = prepare([accepted(number) for number in range(BATCH_ROWS)], load_ruler("none"))
    batch.save(tmp_path / "plain")
    batch.save(tmp_path / "packed", packed=True)
    assert (tmp_path / "packed").stat().st_size < 0.75 * (tmp_path / "plain").stat().st_size


# ----- lengths


def tokenizer_folder(path: Path) -> Path:
    """A tokenizer of one token a word, which is also set to cut and to fill up what it reads."""
    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))  # noqa: S106  # not a secret
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=4)
    path.mkdir()
    tokenizer.save(str(path / "tokenizer.json"))
    return path


def test_tokens_are_counted_over_prompt_and_completion(tmp_path: Path) -> None:
    folder = tokenizer_folder(tmp_path / "words")
    rows = outcomes(60)
    manifest = write(rows, tmp_path / "r1k", BuildConfig(tokenizer=str(folder)))
    digest = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    assert manifest["tokenizer"] == {"name": str(folder), "sha256": digest}
    assert manifest["length_unit"] == "tokens"
    for row in load(tmp_path / "r1k", "mixed"):
        assert row["num_tokens"] == len(texts(row["prompt"]).split()) + len(texts(row["completion"]).split())
    lengths = {
        row.source.pair_id: sum(len(part.split()) for part in (row.forward.question, row.forward.reasoning, row.forward.answer))
        for row in rows
        if isinstance(row.forward, Example)
    }
    shortest = sorted(lengths, key=lambda pair_id: (lengths[pair_id], pair_id))[:50]
    assert set(load(tmp_path / "r1k", "probe")["pair_id"]) == set(shortest)


def test_long_texts_are_tokenized_in_several_batches(tmp_path: Path) -> None:
    ruler = load_ruler(str(tokenizer_folder(tmp_path / "words") / "tokenizer.json"))
    lengths = [3, 0, 400_000, 200_000, 5, 700_000, 1]
    assert ruler.measure(["x " * length for length in lengths]) == lengths
    assert ruler.measure([]) == []


@pytest.mark.parametrize("name", ["none", "Qwen/Qwen2.5-7B-Instruct", "no such/place at all"])
def test_without_a_tokenizer_lengths_are_characters_and_the_card_says_why(name: str, tmp_path: Path) -> None:
    manifest = write(outcomes(2), tmp_path / "r1k", BuildConfig(tokenizer=name))
    assert manifest["tokenizer"] is None
    assert manifest["length_unit"] == "characters"
    assert load(tmp_path / "r1k")["num_tokens"] == [None, None]
    note = manifest["notes"][0]
    assert note.startswith("num_tokens is null and lengths are characters, as ")
    assert note in (tmp_path / "r1k" / CARD).read_text()


def test_a_file_that_is_no_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"truncation": 1}')
    with pytest.raises(UsageError, match=r"tokenizer\.json can't be read as a tokenizer"):
        load_ruler(str(tmp_path))


# ----- the folder


def test_the_same_outcomes_give_the_same_bytes(tmp_path: Path) -> None:
    for config in (PLAIN, INDEPENDENT):
        one, other = tmp_path / "one" / config.control / "r1k", tmp_path / "other" / config.control / "r1k"
        assert write(mixture(), one, config) == write(mixture(), other, config)
        assert files_of(one) == files_of(other)


def test_files_are_named_and_listed_by_their_digests(tmp_path: Path) -> None:
    manifest = write(mixture(), tmp_path / "r1k")
    for entry in manifest["configs"].values():
        for file in entry["files"]:
            content = (tmp_path / "r1k" / file["path"]).read_bytes()
            assert (file["sha256"], file["bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
            assert file["path"].endswith(f"/train-00000-of-00001-{file['sha256'][:12]}.parquet")
    listed = {file["path"] for entry in manifest["configs"].values() for file in entry["files"]}
    assert files_of(tmp_path / "r1k").keys() == listed | {CARD}
    assert list((tmp_path / "r1k" / ".build").iterdir()) == []


def test_a_configuration_that_loses_its_rows_disappears(tmp_path: Path) -> None:
    folder = tmp_path / "r1k"
    write(mixture(), folder)
    manifest = write(outcomes(2), folder)
    assert manifest["configs"]["rejected"] == {"rows": 0, "files": []}
    assert not (folder / "rejected").exists()
    assert "rejected" not in {config["config_name"] for config in metadata_of(folder)["configs"]}


def test_without_rows_there_is_a_card_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "r1k"
    write(mixture(), folder)
    manifest = write([Outcome(source_row(1), None, None)], folder)
    assert manifest["rows"] == {"read": 1, "accepted": 0, "rejected": 0, "failed": 1}
    assert files_of(folder).keys() == {CARD}
    assert "configs" not in metadata_of(folder)
    assert "nothing to load yet" in (folder / CARD).read_text()


def test_without_reverse_rows_the_first_configuration_is_the_default(tmp_path: Path) -> None:
    write([Outcome(row.source, row.forward, None) for row in outcomes(2)], tmp_path / "r1k")
    assert load(tmp_path / "r1k")["direction"] == ["forward", "forward"]


def test_what_others_have_put_there_stays(tmp_path: Path) -> None:
    folder = tmp_path / "r1k"
    kept = {
        "notes.txt": b"mine",
        "reverse/train.parquet": b"mine",
        "figures/a.png": b"mine",
        "other/train-00000-of-00001.parquet": b"mine",
    }
    for name, content in {**kept, CARD: b"# my own"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for rows in (outcomes(2), outcomes(3), [Outcome(source_row(1), None, None)]):
        write(rows, folder)
        found = files_of(folder)
        assert {name: found[name] for name in kept} == kept
        assert found[f"{CARD}.orig"] == b"# my own"


# ----- crashes


def staged(rows: Iterable[Outcome], folder: Path) -> tuple[Path, list[str]]:
    """A dataset as `write_dataset` has it before the first move, and the paths of its files."""
    write(rows, folder / "aside" / "r1k")
    stage = folder / ".build" / "export-1"
    stage.parent.mkdir(parents=True, exist_ok=True)
    (folder / "aside" / "r1k").rename(stage)
    (stage / ".build").rmdir()
    (folder / "aside").rmdir()
    return stage, sorted(files_of(stage).keys() - {CARD})


def test_a_crash_while_replacing_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    folder = tmp_path / "r1k"
    write(outcomes(4), folder)
    stage, paths = staged(outcomes(6, " new"), folder)
    place_files(stage, folder, paths[:3])
    assert load(folder, "mixed")["answer"] == [text for text in TEXTS[:4] for _ in range(2)]
    place_files(stage, folder, paths[3:])
    assert load(folder, "mixed").num_rows == 8
    place_card(stage, folder)
    assert load(folder, "mixed")["answer"] == [f"{text} new" for text in TEXTS[:6] for _ in range(2)]
    assert len(list((folder / "mixed").iterdir())) == 2, "the old file is there until it is swept"
    sweep(folder, paths)
    assert files_of(folder).keys() == {*paths, CARD}
    assert load(folder, "preference").num_rows == 12


def test_a_crash_of_the_first_export_leaves_a_folder_that_does_not_load(tmp_path: Path) -> None:
    folder = tmp_path / "r1k"
    stage, paths = staged(outcomes(4), folder)
    place_card(stage, folder)
    for moved in (0, 2):
        place_files(stage, folder, paths[:moved])
        with pytest.raises(FileNotFoundError):
            load(folder, "reverse")
    write(outcomes(5, " new"), folder)
    assert load(folder).num_rows == 5
    assert not stage.exists()
    assert len(files_of(folder)) == 1 + sum(name not in {"rejected", "attempts"} for name in FROM_ROWS) - 1


ENDLESS = """
import itertools, sys
from pathlib import Path
from r1k_builder.config import BuildConfig
from r1k_builder.export import write_dataset
from r1k_builder.schema import Example, ForwardExample, Outcome, Provenance

def side(source, direction):
    return Example(id=source.pair_id + direction, pair_id=source.pair_id, direction=direction, question="?", reasoning="r",
        answer="a", final_answer=None, reference_answer="a", domain="d", source_type="t", teacher=None, verdict={},
        provenance=Provenance())

folder, times = Path(sys.argv[1]), int(sys.argv[3])
facts = {"version": "0", "source_fingerprint": "", "prompt_versions": {}, "requests": 0, "cost": None, "asked": None,
    "tokens": {"prompt": 0, "completion": 0}, "returned_models": {}, "replayed": None, "benchmarks": {}}
for count in itertools.islice(itertools.cycle([int(sys.argv[2]), 5]), times):
    sources = [ForwardExample(question=str(number), solution="") for number in range(count)]
    rows = [Outcome(source, side(source, "forward"), side(source, "reverse")) for source in sources]
    write_dataset(rows, folder, BuildConfig(tokenizer="none"), facts)
    print("written", flush=True)
"""
"""Exports two datasets in turn; imports no more than it needs, for it is started often."""


def named_files(folder: Path) -> frozenset[str]:
    """The files that the card names; each is there and has the digest of its name."""
    paths = [path for config in metadata_of(folder)["configs"] for part in config["data_files"] for path in part["path"]]
    for path in paths:
        assert path.endswith(f"-{hashlib.sha256((folder / path).read_bytes()).hexdigest()[:12]}.parquet")
    return frozenset(paths)


def test_the_folder_is_whole_at_every_instant(tmp_path: Path) -> None:
    """What a kill would leave is what the folder holds while the exporting process is stopped."""
    folder, root = tmp_path / "r1k", Path(__file__).parents[1]
    command = [sys.executable, "-c", ENDLESS, str(folder)]
    draw, seen = random.Random(0), set()
    with subprocess.Popen([*command, "4", "1000000"], cwd=root, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            for _ in range(150):
                time.sleep(draw.uniform(0.0, 0.02))
                child.send_signal(signal.SIGSTOP)
                os.waitpid(child.pid, os.WUNTRACED)
                seen.add(named_files(folder))
                child.send_signal(signal.SIGCONT)
        finally:
            child.kill()
    assert child.returncode == -signal.SIGKILL
    subprocess.run([*command, "4", "1"], cwd=root, check=True, capture_output=True)
    assert files_of(folder).keys() == named_files(folder) | {CARD}, "the next export sweeps up"
    assert list((folder / ".build").iterdir()) == []
    assert len(seen) == 2, "the old dataset, the new one, and nothing else"


def test_a_failed_export_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "r1k"
    write(outcomes(4), folder)
    before = files_of(folder)

    def broken() -> Iterable[Outcome]:
        yield from outcomes(3)
        raise RuntimeError("the journal is torn")

    with pytest.raises(RuntimeError, match="torn"):
        write(broken(), folder)
    assert files_of(folder) == before
    assert list((folder / ".build").iterdir()) == []


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "mount it writable"), (errno.EACCES, "permissions")]
)
def test_what_the_file_system_refuses_is_told_with_what_to_do(number: int, remedy: str, tmp_path: Path) -> None:
    def full() -> Iterable[Outcome]:
        yield from outcomes(1)
        raise OSError(number, os.strerror(number))

    with pytest.raises(LocalError, match=rf"{remedy}.* then run `r1k-build export '.*my r1k'`"):
        write(full(), tmp_path / "my r1k")


# ----- the card


def metadata_of(folder: Path) -> dict[str, Any]:
    """The card's YAML."""
    empty, block, _ = (folder / CARD).read_text().split("---\n", 2)
    assert empty == ""
    loaded: dict[str, Any] = yaml.safe_load(block)
    return loaded


def test_the_card_lists_what_there_is(tmp_path: Path) -> None:
    folder = tmp_path / "r1k"
    manifest = write(mixture(), folder)
    metadata = metadata_of(folder)
    assert metadata["license"] == "mit"
    assert metadata["size_categories"] == ["n<1K"]
    assert [config["config_name"] for config in metadata["configs"]] == list(FROM_ROWS)
    assert [config["config_name"] for config in metadata["configs"] if config.get("default")] == ["reverse"]
    text = (folder / CARD).read_text()
    for name in FROM_ROWS:
        entry = manifest["configs"][name]
        assert f"| `{name}`" in text
        assert [line for line in text.splitlines() if line.startswith(f"| `{name}`") and f"| {entry['rows']} |" in line]
        for column in SCHEMAS[name].names:
            assert f"`{column}`" in text
    for line in (
        "| read | 25 |",
        "| rejected in at least one | 3 |",
        "| format: truncated | 3 |",
        f"| `boxed` | {manifest['verification']['checks']['boxed']['pass']} |",
        f"`reverse-verified` holds the {manifest['configs']['reverse-verified']['rows']} rows without a `fail`",
        "Requests sent: 12; cost: 0.25 US dollars",
    ):
        assert line in text
    assert text.count("r1k:begin") == text.count("r1k:end") == 13


def test_hostile_names_can_break_neither_card_nor_yaml(tmp_path: Path) -> None:
    hostile = "</td><script>alert(1)</script>\n---\nlicense: x\n| [a](javascript:b) `c` $d$ <!-- r1k:end made -->{{ 7*7 }}"
    rows = [
        Outcome(row.source, row.forward.model_copy(update={"teacher": hostile}), rejected(row.source, "reverse", hostile[4:]))
        for row in outcomes(3)
        if isinstance(row.forward, Example)
    ]
    config = PLAIN.model_copy(update={"source": hostile, "teacher": PLAIN.teacher.model_copy(update={"model": hostile})})
    folder = tmp_path / 'r"1\nk<b>'
    write_dataset(rows, folder, config, {**FACTS, "source_fingerprint": hostile})
    text = (folder / CARD).read_text()
    assert "<script" not in text
    assert "<b>" not in text
    assert "](javascript" not in text
    assert "{{ 7&#42;7 }}" in text
    assert text.count("<!--") == text.count("-->") == 24
    assert metadata_of(folder)["license"] == "unknown"
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_a_fact_that_is_missing_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    write(outcomes(1), tmp_path / "r1k")
    before = files_of(tmp_path / "r1k")
    facts = {name: value for name, value in FACTS.items() if name != "cost"}
    with pytest.raises(UndefinedError, match="cost"):
        write_dataset(outcomes(2), tmp_path / "r1k", PLAIN, facts)
    assert files_of(tmp_path / "r1k") == before


def test_thousands_of_reasons_are_summed_up(tmp_path: Path) -> None:
    rows = [
        Outcome(source, None, rejected(source, "reverse", f"reason {number}"))
        for number, source in enumerate(map(source_row, range(300)))
    ]
    rejections = write(rows, tmp_path / "r1k")["rejections"]
    assert sum(rejections.values()) == 300
    assert rejections["others"] == 100


def test_the_cards_python_runs_as_it_stands(tmp_path: Path) -> None:
    write(mixture(), tmp_path / "r1k")
    text = (tmp_path / "r1k" / CARD).read_text()
    load_it, by_table, sft, dpo = (part.split("```", 1)[0] for part in text.split("```python\n")[1:])
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    code = f"{load_it}\nprint(reverse.num_rows, preference_control.num_rows)\n"
    pandas = "\n".join(line for line in by_table.splitlines() if "pl." not in line and "polars" not in line)
    code += f"{pandas}\nprint(len(rows), rows.columns[0])"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "21 40\n21 id\n"
    for block in (by_table, sft, dpo):
        compile(block, CARD, "exec")


def test_the_metadata_has_every_column_and_size(tmp_path: Path) -> None:
    folder = tmp_path / "r1k"
    manifest = write(mixture(), folder)
    infos = {info["config_name"]: info for info in metadata_of(folder)["dataset_info"]}
    assert list(infos) == list(FROM_ROWS)
    for name, info in infos.items():
        assert Features._from_yaml_list(info["features"]) == Features.from_arrow_schema(SCHEMAS[name])
        (file,) = manifest["configs"][name]["files"]
        assert info["download_size"] == (folder / file["path"]).stat().st_size
        (split,) = info["splits"]
        assert split["num_examples"] == manifest["configs"][name]["rows"]
        assert split["num_bytes"] == info["dataset_size"] > 0


def test_what_a_user_has_written_survives_a_rebuild(tmp_path: Path) -> None:
    folder = tmp_path / "r1k"
    write(mixture(), folder)
    card = folder / CARD
    text = card.read_text()
    text = text.replace("# r1k:begin metadata", "license: cc-by-4.0\nextra_gated_prompt: Be kind.\n# r1k:begin metadata")
    text = text.replace("<!-- r1k:begin load -->", "Mine, before.\n\n<!-- r1k:begin load -->")
    text = text.replace("| read | 25 |", "| read | 26 |")
    card.write_text(text + "\n## My own section\n\nMine, at the end.\n")
    write(outcomes(3), folder)
    rebuilt = card.read_text()
    assert "Mine, before.\n\n<!-- r1k:begin load -->" in rebuilt
    assert rebuilt.endswith("\n## My own section\n\nMine, at the end.\n")
    assert "| read | 3 |" in rebuilt
    assert "| read | 26 |" not in rebuilt
    metadata = metadata_of(folder)
    assert (metadata["license"], metadata["extra_gated_prompt"]) == ("cc-by-4.0", "Be kind.")
    assert rebuilt.count("\nlicense:") == 1
    assert load(folder).num_rows == 3
    write(outcomes(3), folder)
    assert card.read_text() == rebuilt
    assert not (folder / f"{CARD}.orig").exists()


def test_a_section_that_was_taken_out_comes_back_in_its_place(tmp_path: Path) -> None:
    write(mixture(), tmp_path / "r1k")
    whole = (tmp_path / "r1k" / CARD).read_text()
    start, stop = whole.index("<!-- r1k:begin funnel -->"), whole.index("<!-- r1k:begin verification -->")
    assert merge_card(whole, whole[:start] + "Mine.\n\n" + whole[stop:]).replace("Mine.\n\n", "").split() == whole.split()
    older = whole.replace("<!-- r1k:end made -->", "<!-- r1k:end made -->\n\n<!-- r1k:begin old -->\nold\n<!-- r1k:end old -->")
    assert merge_card(whole, older).split() == whole.split(), "one that we make no more goes"


def test_a_card_whose_sections_can_not_be_told_is_kept_beside(tmp_path: Path) -> None:
    folder = tmp_path / "r1k"
    write(mixture(), folder)
    broken = (folder / CARD).read_text().replace("<!-- r1k:end made -->", "")
    (folder / CARD).write_text(broken)
    write(outcomes(2), folder)
    assert (folder / f"{CARD}.orig").read_text() == broken
    assert load(folder).num_rows == 2


def test_files_suit_the_viewer(tmp_path: Path) -> None:
    """Pages can be found without reading a row group, groups are small, and the rows stream."""
    folder = tmp_path / "r1k"
    manifest = write([*mixture(), *outcomes(400)[20:]], folder)
    for name in FROM_ROWS:
        (file,) = manifest["configs"][name]["files"]
        metadata = pq.ParquetFile(folder / file["path"]).metadata
        for group in range(metadata.num_row_groups):
            assert metadata.row_group(group).num_rows <= 1000
            assert metadata.row_group(group).total_byte_size <= 32_000_000
            assert all(metadata.row_group(group).column(place).has_offset_index for place in range(metadata.num_columns))
        streamed = load_dataset(str(folder), name, split="train", streaming=True)
        assert streamed.features == Features.from_arrow_schema(SCHEMAS[name])
        assert sum(1 for _ in streamed) == manifest["configs"][name]["rows"]


def test_schemas_are_what_the_parquet_files_have(tmp_path: Path) -> None:
    folder = tmp_path / "r1k"
    configs = write(mixture(), folder)["configs"]
    for name in FROM_ROWS:
        (file,) = configs[name]["files"]
        assert pq.read_schema(folder / file["path"]) == SCHEMAS[name]
    assert SCHEMAS["reverse"].field("prompt").type == pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    assert columns.PROVENANCE.field("completion_tokens").type == pa.int64()
