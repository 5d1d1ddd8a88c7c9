"""What a user who makes mistakes sees: one sentence that says what to type next, and the right exit status."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from r1k_builder import cli
from r1k_builder.config import PRESETS, BuildConfig, TeacherConfig
from r1k_builder.journal import JournalView
from tests.fake_host import FakeHost

Questions = Callable[..., Path]
Captured = pytest.CaptureFixture[str]


def build(host: FakeHost, source: Path, output: Path, *more: str) -> int:
    fixed = ["--base-url", host.url, "--model", "m", "--tokenizer", "none"]
    return cli.main(["--source", str(source), "--output", str(output), *fixed, *more])


def refused(capsys: Captured, *words: str) -> tuple[int, str]:
    """Status and message of a command that is turned down, with nothing on standard output."""
    status = cli.main(list(words))
    shown = capsys.readouterr()
    assert shown.err.startswith("r1k-build: ")
    assert "Traceback" not in shown.err
    return status, shown.err.strip()


def test_unknown_option_names_the_nearest(capsys: Captured) -> None:
    assert refused(capsys, "--limt", "3") == (
        2,
        "r1k-build: unknown argument --limt: did you mean --limit; r1k-build --help lists the options",
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--limit", "-3"], "--limit '-3'"),
        (["--limit", "many"], "--limit 'many': must be a whole number;"),
        (["--teacher", "gpt"], "--teacher 'gpt'"),
        (["--price", "cheap"], "--price 'cheap': is not written as IN,OUT[,CACHED];"),
        (["--temperature", "9"], "--temperature '9': must be 2.0 or less;"),
        (["--attempts", "0"], "--attempts '0': must be 1 or more;"),
        (["--control", "maybe"], "--control 'maybe': must be 'none' or 'independent';"),
    ],
)
def test_a_value_that_does_not_fit_its_option(words: list[str], says: str, capsys: Captured) -> None:
    status, message = refused(capsys, *words)
    assert status == 2
    assert says in message
    assert "r1k-build --help" in message


def test_missing_key_names_its_variable(capsys: Captured, tmp_path: Path) -> None:
    status, message = refused(capsys, "--output", str(tmp_path / "r1k"))
    assert status == 2
    assert "export OPENROUTER_API_KEY=" in message
    assert not (tmp_path / "r1k").exists()


def test_missing_model(capsys: Captured, tmp_path: Path, questions: Questions) -> None:
    words = ["--source", str(questions(1)), "--base-url", "http://127.0.0.1:9/v1", "--output", str(tmp_path / "r1k")]
    status, message = refused(capsys, *words)
    assert (status, "--model" in message) == (2, True)


def test_unreachable_host(capsys: Captured, tmp_path: Path, questions: Questions) -> None:
    words = [
        "--source",
        str(questions(3)),
        "--base-url",
        "http://127.0.0.1:9/v1",
        "--model",
        "m",
        "--output",
        str(tmp_path / "r1k"),
    ]
    assert cli.main(words) == 7
    message = capsys.readouterr().err
    assert "no connection to 127.0.0.1:9" in message
    assert "--resume" in message


def test_a_source_that_is_not_there_empty_or_of_other_columns(capsys: Captured, tmp_path: Path) -> None:
    where = ["--teacher", "embedded", "--output", str(tmp_path / "new" / "r1k")]
    assert refused(capsys, "--source", str(tmp_path / "no.jsonl"), *where)[0] == 2
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    status, message = refused(capsys, "--source", str(empty), *where)
    assert (status, "no rows" in message) == (2, True)
    other = tmp_path / "other.jsonl"
    other.write_text('{"text": "a", "label": 1}\n')
    status, message = refused(capsys, "--source", str(other), *where)
    assert status == 2
    assert "text" in message
    assert "--question-column" in message
    assert not (tmp_path / "new").exists(), "what was refused leaves nothing behind"


def test_a_folder_that_holds_something_else(capsys: Captured, tmp_path: Path, questions: Questions) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    words = ["--source", str(questions(1)), "--teacher", "embedded", "--output", str(tmp_path / "mine")]
    status, message = refused(capsys, *words)
    assert (status, "--output" in message) == (2, True)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_folder_that_holds_a_build_is_refused_with_both_commands(
    host: FakeHost, capsys: Captured, tmp_path: Path, questions: Questions
) -> None:
    source, output = questions(2), tmp_path / "r1k"
    assert build(host, source, output) == 0
    capsys.readouterr()
    status, message = refused(capsys, "--source", str(source), "--output", str(output))
    assert status == 2
    assert f"r1k-build --resume --output {output}" in message
    assert f"r1k-build --overwrite --output {output}" in message


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_read_only_folder(tmp_path: Path, questions: Questions) -> None:
    """As another user, since root may write anywhere."""
    source, place = questions(1), tmp_path / "place"
    place.mkdir(mode=0o755)
    for part in [source, *source.parents]:
        if part.is_relative_to("/tmp"):  # noqa: S108
            part.chmod(0o755)
    words = ["--source", str(source), "--teacher", "embedded", "--output", str(place / "r1k")]
    program = f"import os; from r1k_builder import cli; os.setuid(65534); raise SystemExit(cli.main({words!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 6, done.stderr
    assert "write permission" in done.stderr
    assert "--output" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["status", "export"])
def test_commands_on_a_folder_without_a_build(command: str, capsys: Captured, tmp_path: Path) -> None:
    status, message = refused(capsys, command, str(tmp_path))
    assert status == 2
    assert "holds no build" in message


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--resume", "--overwrite"], "type one of them"),
        (["--accept-drift"], "beside --resume"),
        (["--output", ""], "names no folder"),
        (["--source", ""], "--source '': must not be empty"),
    ],
)
def test_what_can_not_be_meant_is_refused(
    words: list[str], says: str, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, message = refused(capsys, *words)
    assert status == 2
    assert says in message
    assert list(tmp_path.iterdir()) == []


def test_none_is_a_value_where_it_is_named_as_one() -> None:
    named = {name for name, field in BuildConfig.model_fields.items() if "'none'" in str(field.annotation)}
    assert named | {"tokenizer"} == {*cli.NAMED_NONE}
    options = cli.make_parser().parse_all(["--tokenizer", "none", "--control", "none"])
    made = cli.make_config(cli.given_settings(options), {"control": "independent"})
    assert (made.tokenizer, made.control) == ("none", "none")


def test_a_dataset_whose_journal_is_gone_is_not_built_over(
    host: FakeHost, capsys: Captured, tmp_path: Path, questions: Questions
) -> None:
    folder = tmp_path / "r1k"
    assert build(host, questions(3), folder) == 0
    (folder / ".build" / "journal.sqlite").rename(tmp_path / "aside")
    before = {path: path.read_bytes() for path in folder.glob("*/*.parquet")}
    capsys.readouterr()
    assert build(host, questions(2), folder) == 2
    assert "nothing of the journal" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.glob("*/*.parquet")} == before
    assert build(host, questions(2), folder, "--overwrite") == 0


def test_an_export_of_a_journal_that_has_lost_its_rows_leaves_the_dataset(
    host: FakeHost, capsys: Captured, tmp_path: Path, questions: Questions
) -> None:
    folder = tmp_path / "r1k"
    assert build(host, questions(3), folder) == 0
    journal = folder / ".build" / "journal.sqlite"
    journal.write_bytes(b"no database" * 2_000)
    before = {path: path.read_bytes() for path in [folder / "README.md", *folder.glob("*/*.parquet")]}
    capsys.readouterr()
    assert cli.main(["status", str(folder)]) == 6
    assert f"{folder}: its journal is damaged" in capsys.readouterr().err
    for command in ("export", "verify"):
        assert cli.main([command, str(folder)]) == 6
        assert "holds 0 of the 3 source rows" in capsys.readouterr().err
    assert build(host, questions(3), folder) == 2
    assert {path: path.read_bytes() for path in [folder / "README.md", *folder.glob("*/*.parquet")]} == before
    assert cli.main(["--resume", "--output", str(folder)]) == 0
    assert len(host.log) == 12
    assert cli.main(["export", str(folder), "--limit", "2"]) == 0, "fewer rows may be wanted"


def test_a_source_that_was_edited_is_said_to_be(host: FakeHost, capsys: Captured, tmp_path: Path, questions: Questions) -> None:
    source = questions(3)
    assert build(host, source, tmp_path / "r1k") == 0
    source.write_text(source.read_text().replace("?", "??", 1))
    status, message = refused(capsys, "--resume", "--output", str(tmp_path / "r1k"))
    assert status == 2
    assert "give the source its old content back" in message
    assert "--resume alone" not in message


def test_a_build_that_is_killed_at_once_is_resumed_with_its_own_settings(
    host: FakeHost, tmp_path: Path, questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("r1k_builder.build.reach_source", killed)
        assert build(host, questions(3), tmp_path / "r1k") == 130
    assert cli.main(["--resume", "--output", str(tmp_path / "r1k")]) == 0
    assert len(host.log) == 6


def test_a_sigterm_while_the_dataset_is_written_ends_with_a_sentence(
    host: FakeHost, capsys: Captured, tmp_path: Path, questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: object) -> NoReturn:
        assert callable(signal.getsignal(signal.SIGTERM)), "else it would end the tests"
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("the signal went by")

    with monkeypatch.context() as patch:
        patch.setattr(cli, "write", ended)
        assert build(host, questions(2), tmp_path / "r1k") == 143
    assert not callable(signal.getsignal(signal.SIGTERM)), "as asking leaves it"
    assert "nothing that was answered is lost: type r1k-build --resume --output" in capsys.readouterr().err
    assert cli.main(["--resume", "--output", str(tmp_path / "r1k")]) == 0
    assert len(host.log) == 4


def test_resume_where_there_is_no_folder_starts_a_build(host: FakeHost, tmp_path: Path, questions: Questions) -> None:
    assert build(host, questions(2), tmp_path / "r1k", "--resume") == 0
    assert len(host.log) == 4


def test_resume_alone_takes_every_setting_from_the_folder(
    host: FakeHost, tmp_path: Path, questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert build(host, questions(4), tmp_path / "r1k", "--limit", "2", "--concurrency", "3", "--temperature", "none") == 0
    monkeypatch.chdir(tmp_path)
    assert cli.main(["--resume", "--limit", "4"]) == 0
    assert len(host.log) == 8
    assert all("temperature" not in exchange.sampling for exchange in host.log)
    config = json.loads((tmp_path / "r1k" / ".build" / "manifest.json").read_text())["config"]
    assert (config["limit"], config["concurrency"], config["teacher"]["temperature"]) == (4, 3, None)


def test_dry_run_sends_nothing_and_writes_nothing(
    host: FakeHost, capsys: Captured, tmp_path: Path, questions: Questions
) -> None:
    source, output = questions(5), tmp_path / "r1k"
    assert build(host, source, output, "--dry-run", "--price", "1,10") == 0
    shown = capsys.readouterr().out
    assert "requests to make: 10 (5 inversions, 5 solutions)" in shown
    assert "requests already paid: 0" in shown
    # 5 × 1,500 + 5 × 8,000 tokens at $10 a million are $0.475, and the prompts cost little
    assert re.search(r"about \$0\.4[78]: 1,500 tokens per invert \(assumed\)", shown)
    assert "temperature: 0.6" in shown
    assert host.log == []
    assert not output.exists()


def test_dry_run_counts_what_is_paid_and_names_what_changed(
    host: FakeHost, capsys: Captured, tmp_path: Path, questions: Questions
) -> None:
    source, output = questions(30), tmp_path / "r1k"
    assert build(host, source, output, "--limit", "20") == 0
    before = (output / ".build" / "manifest.json").read_bytes()
    capsys.readouterr()
    assert build(host, source, output, "--dry-run", "--limit", "30") == 0
    shown = capsys.readouterr().out
    assert "requests already paid: 40" in shown
    assert "requests to make: 20" in shown
    assert "cost unknown" in shown
    assert build(host, source, output, "--dry-run", "--limit", "20", "--temperature", "1", "--price", "0,10") == 0
    shown = capsys.readouterr().out
    assert "changed: temperature: 0.6 -> 1.0" in shown
    assert "requests to make: 40" in shown
    assert "100 tokens per solve (measured over 20 replies)" in shown
    assert (output / ".build" / "manifest.json").read_bytes() == before


def test_dry_run_of_an_unpriced_model_says_unknown(
    host: FakeHost, capsys: Captured, tmp_path: Path, questions: Questions
) -> None:
    assert build(host, questions(2), tmp_path / "r1k", "--dry-run") == 0
    assert "expected cost: cost unknown" in capsys.readouterr().out


def test_status_tells_what_the_journal_knows(host: FakeHost, capsys: Captured, tmp_path: Path, questions: Questions) -> None:
    assert build(host, questions(3), tmp_path / "r1k", "--price", "1,10,0.1") == 0
    capsys.readouterr()
    assert cli.main(["status", str(tmp_path / "r1k")]) == 0
    shown = capsys.readouterr().out
    assert "rows: 3 = 3 accepted + 0 rejected + 0 owed" in shown
    assert "6 answered" in shown
    assert "600 written" in shown
    view = JournalView(tmp_path / "r1k" / ".build" / "journal.sqlite")
    # each answer: 100 tokens at $10, 10 cached at $0.1, the rest of the prompt at $1, per million
    spent = view.spent()
    assert spent.cost == 6 * 100 * 10 * 10**6 + 6 * 10 * 10**5 + (spent.prompt - 60) * 10**6
    view.close()


def test_help_documents_every_setting() -> None:
    text = cli.make_parser().format_help()
    for name in {*BuildConfig.model_fields, *TeacherConfig.model_fields} - {"teacher", "preset"}:
        assert f"--{name.replace('_', '-')}" in text, name
    for preset in PRESETS:
        assert preset in text


def test_every_setting_has_a_docstring_and_no_setting_holds_a_secret() -> None:
    for model in (BuildConfig, TeacherConfig):
        for name, field in model.model_fields.items():
            assert field.description or name == "teacher", name
            assert name not in {"api_key", "key", "token"}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_whole(preset: str) -> None:
    config = TeacherConfig.model_validate({"preset": preset, "model": "m" if preset == "vllm" else None})
    assert config.canonical_model
    assert config.urls or preset == "embedded"
    assert config.known_price is not None or preset in {"vllm", "novita"}


def test_two_hosts_of_one_model_share_its_name_and_another_model_does_not() -> None:
    r1 = TeacherConfig()
    assert (r1.canonical_model, r1.host_model, r1.host) == ("deepseek-r1", "deepseek/deepseek-r1", "openrouter.ai")
    other = TeacherConfig(model="deepseek/deepseek-r1-0528")
    assert other.canonical_model == "deepseek/deepseek-r1-0528"
    assert other.known_price is None, "the preset's price is its model's"
