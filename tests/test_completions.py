"""What one build publishes of its teacher's replies, another takes: nobody asks, or pays, twice."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from r1k_builder import invert, solve
from r1k_builder.columns import COMPLETIONS, SCHEMAS
from tests.command import Build, parquet, rows, run_here
from tests.fake_host import FakeHost
from tests.hub_server import Repository, client_environment, serve_hub
from tests.shop import Shop, write_source

Questions = Callable[[int], Path]


def published(build: Build, *options: str) -> Path:
    """The folder of a build with its completions, as a reader has it: without its journal."""
    ended = build.here("--with-completions", *options)
    assert ended.status in {0, 3}, ended
    copy = build.folder.with_name("published")
    copy.mkdir()
    for path, content in parquet(build.folder).items():
        (copy / path).parent.mkdir(exist_ok=True)
        (copy / path).write_bytes(content)
    return copy


def without_completions(folder: Path) -> dict[str, bytes]:
    return {path: content for path, content in parquet(folder).items() if not path.startswith("completions/")}


def completions(folder: Path) -> pa.Table:
    (path,) = (folder / "completions").iterdir()
    return pq.read_table(path)


def again(build: Build, name: str) -> Build:
    """The same source and host, another folder."""
    return Build(build.host, build.source, build.folder.with_name(name))


@pytest.fixture
def build(host: FakeHost, questions: Questions, tmp_path: Path) -> Build:
    return Build(host, questions(12), tmp_path / "r1k")


def test_completions_hold_what_was_asked_and_what_came_back(build: Build) -> None:
    folder = published(build, "--price", "1,2")
    loaded = load_dataset(str(build.folder), "completions", split="train", cache_dir=str(build.folder.parent / "cache"))
    assert loaded.column_names == COMPLETIONS.names == SCHEMAS["completions"].names
    assert loaded.num_rows == len(build.host.log) == 24
    assert parquet(build.folder) == parquet(folder)
    reverse = {row["pair_id"]: row for row in load_dataset(str(build.folder), split="train", cache_dir=str(folder / "cache"))}
    for row in loaded:
        key = {"invert": "invert_key", "solve": "solve_key"}[row["stage"]]
        assert reverse[row["pair_id"]]["provenance"][key] == row["key"]
        assert json.loads(row["reply"])["choices"][0]["message"]["content"]
        assert json.loads(row["sampling"])["temperature"] == 0.6
        assert row["received"] >= row["sent"] > 1e9
        assert row["cost"] == pytest.approx((row["prompt_tokens"] + 2 * row["completion_tokens"]) / 1e6)
    assert [row["pair_id"] for row in loaded] == [pair_id for pair_id in reverse for _ in range(2)], "source order"


def test_a_replay_asks_nobody_and_gives_the_same_bytes(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    build.host.script = lambda prompt, attempt: (
        {"0": "unparsable", "1": "empty", "2": "503"}.get(prompt[0]) if attempt == 1 else "400" if prompt[0] == "3" else None
    )
    folder = published(build)
    asked = len(build.host.log)
    other = again(build, "other")
    ended = other.here("--replay", str(folder), "--key-variable", "NO_SUCH_API_KEY", "--with-completions")
    assert ended.status == 0, ended
    assert len(build.host.log) == asked
    assert parquet(other.folder) == parquet(build.folder), "the completions, too"
    assert rows(ended)["read"] == 12
    manifest = json.loads((other.folder / ".build" / "manifest.json").read_text())
    (origin,) = manifest["facts"]["replayed"]["answers"]
    assert origin.startswith("published@")
    assert manifest["facts"]["replayed"]["rows_asked_here"] == 0
    assert manifest["facts"]["requests"] == 0
    card = (other.folder / "README.md").read_text()
    assert f"{completions(folder).num_rows} answers from {origin}" in card
    assert "Every one of the 12 source rows rests on those alone" in card


@pytest.mark.parametrize("more", [(), ("--until-verified", "3"), ("--accepted", "3", "--until-verified", "2")])
def test_a_replay_of_every_kind_of_evidence_asks_nobody(
    more: tuple[str, ...], host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several samples, the way back and a judge's verdicts are replies like any other; the judge's key is not needed either."""
    host.say = Shop(rate=0.6, wrong=0.3, off=1).say
    build = Build(host, write_source(tmp_path / "shop.jsonl", 12), tmp_path / "r1k")
    asking = ("--samples", "3", "--cycle", "--judge", "j", "--judge-key-variable", "JUDGES_API_KEY", *more)
    monkeypatch.setenv("JUDGES_API_KEY", "of the judge")
    folder = published(build, *asking)
    monkeypatch.delenv("JUDGES_API_KEY")
    asked = len(host.log)
    assert {exchange.stage for exchange in host.log} == {"invert", "solve", "cycle", "judge"}
    other = again(build, "other")
    ended = other.here("--replay", str(folder), "--with-completions", *asking)
    assert ended.status == 0, ended
    assert len(host.log) == asked
    assert parquet(other.folder) == parquet(build.folder)


def test_a_replay_begun_again_takes_nothing_twice(build: Build) -> None:
    folder = published(build)
    other = again(build, "other")
    assert other.here("--replay", str(folder)).status == 0
    before = without_completions(other.folder)
    ended = other.resume_here("--replay", str(folder))
    assert ended.status == 0, ended
    assert "0 answers taken" in ended.err
    assert without_completions(other.folder) == before


def test_more_rows_pay_only_for_what_is_new(build: Build) -> None:
    folder = published(build, "--limit", "8")
    asked = len(build.host.log)
    other = again(build, "other")
    plan = other.here("--replay", str(folder), "--dry-run")
    assert "requests already paid: 16" in plan.out
    assert "requests to make: 8 (4 inversions, 4 solutions)" in plan.out
    assert not other.folder.exists()
    ended = other.here("--replay", str(folder), "--price", "1,1")
    assert ended.status == 0, ended
    assert len(build.host.log) - asked == 8
    replayed = json.loads((other.folder / ".build" / "manifest.json").read_text())["facts"]["replayed"]
    assert replayed["rows_asked_here"] == len(replayed["asked_here"]) == 4
    spent = sum(exchange.usage["prompt_tokens"] + exchange.usage["completion_tokens"] for exchange in build.host.log[asked:])
    summary = json.loads((other.folder / ".build" / "manifest.json").read_text())["cost"]
    assert float(summary["dollars"]) == pytest.approx(spent / 1e6), "what is replayed costs nothing"
    whole = again(build, "whole")
    assert whole.here().status == 0
    assert parquet(other.folder) == parquet(whole.folder)


@pytest.mark.parametrize("stage", ["invert", "solve"])
def test_a_changed_template_asks_for_exactly_the_rows_that_change(
    build: Build, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reverse rows all change with either template; with template 2 alone their inversions are still good."""
    folder = published(build)
    asked = len(build.host.log)
    other = again(build, "other")
    if stage == "invert":
        *parts, after = invert._PARTS["paper"]
        monkeypatch.setitem(invert._PARTS, "paper", [*parts, after + " "])
    else:
        monkeypatch.setattr(solve, "_AFTER", solve._AFTER + " ")
    ended = other.here("--replay", str(folder))
    assert ended.status == 0, ended
    stages = [exchange.stage for exchange in build.host.log[asked:]]
    if stage == "solve":
        assert stages == ["solve"] * 12
    else:  # the host's questions hang on the prompt, so their solutions are new, too
        assert sorted(stages) == ["invert"] * 12 + ["solve"] * 12
    assert "0 of 12 rows are complete" in ended.err


def test_other_settings_are_named(build: Build) -> None:
    folder = published(build)
    ended = again(build, "other").here("--replay", str(folder), "--temperature", "1")
    assert "They were asked of other settings, or of another source (24 of m {" in ended.err
    assert '"temperature": 0.6' in ended.err


@pytest.mark.parametrize("column", ["reply", "key", "messages", "model", "sampling", "sample", "digest"])
def test_a_reply_that_is_not_its_keys_is_refused(build: Build, column: str) -> None:
    folder = published(build)
    (path,) = (folder / "completions").iterdir()
    table = pq.read_table(path)
    values = table[column].to_pylist()
    if column == "sample":
        values[3] = 7
    else:
        values[3] = values[4] if values[4] != values[3] else "{}"
    place, field = table.schema.get_field_index(column), table.schema.field(column)
    pq.write_table(table.set_column(place, field, pa.array(values, field.type)), path)
    other = again(build, "other")
    ended = other.here("--replay", str(folder))
    assert ended.status == 2
    assert f"completions/{path.name}, row 4: the reply does not belong to its request's key" in ended.err
    assert not other.folder.exists(), "nothing is taken, and nothing begun"


def test_what_can_not_be_replayed_is_said_in_a_sentence(build: Build, tmp_path: Path) -> None:
    assert build.here().status == 0
    other = again(build, "other")

    def refused(place: Path | str, words: str) -> None:
        ended = other.here("--replay", str(place))
        assert ended.status == 2, ended
        assert words in ended.err
        assert ended.err.count("\n") == 1

    refused(build.folder, "publishes no completions, so there is nothing to replay")
    refused("no-such-folder", "there is no such folder, and it is no OWNER/NAME")
    refused("no/such", "it is on the Hub, and HF_HUB_OFFLINE is set")
    (tmp_path / "odd" / "completions").mkdir(parents=True)
    file = tmp_path / "odd" / "completions" / "train.parquet"
    pq.write_table(pa.table({"key": ["a"]}), file)
    refused(tmp_path / "odd", "has other columns than completions have")
    file.write_bytes(b"no Parquet")
    refused(tmp_path / "odd", "can't be read as Parquet")


def test_a_replay_from_the_hub_asks_no_teacher(build: Build, tmp_path: Path) -> None:
    folder = published(build)
    asked = len(build.host.log)
    code = "import sys; from r1k_builder import cli; sys.exit(cli.main(sys.argv[1:]))"
    with serve_hub(me__r1k=Repository(folder)) as hub:
        other = again(build, "other")
        environment = client_environment(hub, tmp_path / "home") | {"PYTHONPATH": str(Path(__file__).parents[1])}
        command = [sys.executable, "-c", code, *other.words("--replay", "me/r1k")]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended
        assert f"me/r1k@{hub.repositories['me/r1k'].sha[:9]}: 24 answers taken" in ended.stderr
    assert len(build.host.log) == asked
    assert without_completions(other.folder) == without_completions(build.folder)


def test_an_export_can_add_them_later_and_leave_them_out_again(build: Build) -> None:
    assert build.here().status == 0
    assert not (build.folder / "completions").exists()
    assert run_here("export", str(build.folder), "--with-completions").status == 0
    assert completions(build.folder).num_rows == 24
    assert run_here("export", str(build.folder), "--no-with-completions").status == 0
    assert not (build.folder / "completions").exists()
