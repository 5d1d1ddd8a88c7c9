"""The lm-eval tasks: prompts, scores, the frozen bank, and what stands in for Hub datasets."""

import hashlib
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("lm_eval", reason="pip install '.[eval]'")

from r1k_train.tasks import BANK, FOLDER, main
from r1k_train.tasks import functions as tasks
from tests.hub_server import HubServer, client_environment, new_repository, serve_hub

TASKS = {"r1k_aime24", "r1k_math500", "r1k_gpqa_diamond", "r1k_bank_forward", "r1k_bank_reverse"}


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_lm_eval_knows_them() -> None:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(FOLDER), include_defaults=False)
    assert set(manager.all_subtasks) == TASKS
    assert set(manager.all_groups) == {"r1k", "r1k_bank"}


def test_the_average_is_the_papers() -> None:
    group = yaml.safe_load((FOLDER / "r1k.yaml").read_text())
    assert group["task"] == ["r1k_aime24", "r1k_math500", "r1k_gpqa_diamond"]
    assert {metric["weight_by_size"] for metric in group["aggregate_metric_list"]} == {False}


def test_the_frozen_bank_is_rebuilt_byte_for_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built = tmp_path / "bank"
    words = ["--source", "embedded", "--split", "heldout", "--teacher", "embedded", "--limit", "100", "--tokenizer", "none"]
    subprocess.run([sys.executable, "-m", "r1k_builder", *words, "--output", str(built)], check=True, capture_output=True)
    assert main(["--freeze", str(built)]) == 0
    assert capsys.readouterr().out.encode() == BANK.read_bytes()


def test_a_built_folder_stands_in_for_the_bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [json.loads(line) for line in BANK.read_text().splitlines()][:3]
    monkeypatch.setenv("R1K_BANK", str(lines(tmp_path / "few.jsonl", *rows)))
    assert [row["gold"] for row in tasks.bank_forward()["test"]] == [row["final_answer"] for row in rows]
    monkeypatch.setenv("R1K_BANK", str(tmp_path))
    with pytest.raises(tasks.DataMissing, match="no forward or reverse rows"):
        tasks.bank_forward()


def test_both_directions_of_the_bank() -> None:
    forward, reverse = tasks.bank_forward()["test"], tasks.bank_reverse()["test"]
    assert len(forward) == len(reverse) == 100
    assert not {row["id"] for row in forward} & {row["id"] for row in reverse}


def test_figures_are_dropped_and_problems_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = lines(
        tmp_path / "a.jsonl",
        {"problem": "How many?\n[asy] draw(a[1]); [/asy]", "answer": "25"},
        {"problem": "And $n$?", "answer": 7},
    )
    monkeypatch.setenv("R1K_AIME24", str(file))
    rows = tasks.aime24()["test"]
    assert [row["prompt"] for row in rows] == ["How many?", "And $n$?"]
    assert [row["gold"] for row in rows] == ["25", "7"]


GPQA = {
    "Question": "Which?",
    "Correct Answer": "one",
    "Incorrect Answer 1": "two",
    "Incorrect Answer 2": "three",
    "Incorrect Answer 3": "four",
}


def test_choices_stand_in_an_order_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [GPQA | {"Question": f"Which, {number}?"} for number in range(200)]
    monkeypatch.setenv("R1K_GPQA_DIAMOND", str(lines(tmp_path / "g.jsonl", *many)))
    random.seed(1)
    rows = list(tasks.gpqa_diamond()["test"])
    random.seed(2)
    assert rows == list(tasks.gpqa_diamond()["test"])
    monkeypatch.setenv("R1K_GPQA_DIAMOND", str(lines(tmp_path / "h.jsonl", *reversed(many))))
    assert rows == list(tasks.gpqa_diamond()["test"])[::-1]  # nor on the other rows
    golds = [row["gold"] for row in rows]
    assert all(30 <= golds.count(letter) <= 70 for letter in "ABCD")
    assert all(row["choices"]["ABCD".index(row["gold"])] == "one" for row in rows)
    prompt = rows[0]["prompt"].split("\n")
    assert prompt[:2] == ["Which, 0?", ""]
    assert [line[:3] for line in prompt[2:]] == ["A) ", "B) ", "C) ", "D) "]


@pytest.mark.parametrize("name", ["g.csv", "g.json", "g.parquet"])
def test_files_of_other_kinds(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import Dataset

    data = Dataset.from_list([GPQA])
    {".csv": data.to_csv, ".json": data.to_json, ".parquet": data.to_parquet}[Path(name).suffix](str(tmp_path / name))
    monkeypatch.setenv("R1K_GPQA_DIAMOND", str(tmp_path / name))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert tasks.gpqa_diamond()["test"][0]["kind"] == "choice"


def test_a_file_that_will_not_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1K_MATH500", str(tmp_path / "none.jsonl"))
    with pytest.raises(tasks.DataMissing, match="there is no such file"):
        tasks.math500()
    monkeypatch.setenv("R1K_MATH500", str(lines(tmp_path / "m.jsonl", {"question": "?"})))
    with pytest.raises(tasks.DataMissing, match="lacks problem, answer"):
        tasks.math500()


ROW = {"kind": "math", "gold": "1/2", "choices": []}


def test_scores() -> None:
    said = [
        "<think>\n\\boxed{3}\n</think>\n\nIt is \\boxed{0.5}.",
        "\\boxed{3}",
        "<think>\nso far",
        "Who knows.",
        "Answer: $\\frac12$",
    ]
    scores = tasks.score(ROW, said)
    assert [one["correct"] for one in scores] == [True, False, False, False, True]
    assert [one["answer"] is None for one in scores] == [False, False, True, True, False]
    assert [one["finished"] for one in scores] == [True, True, False, True, True]
    assert tasks.process_results(ROW, [said]) == {
        "accuracy": 0.4,
        "maj": 1.0,
        "pass": 1.0,
        "unreadable": 0.4,
        "unfinished": 0.2,
    }


def test_an_unreadable_choice_is_not_a() -> None:
    row = {"kind": "choice", "gold": "A", "choices": ["w", "x", "y", "z"]}
    assert tasks.process_results(row, [["I can't tell."]]) == {
        "accuracy": 0,
        "maj": 0,
        "pass": 0,
        "unreadable": 1,
        "unfinished": 0,
    }
    assert tasks.process_results(row, [["\\boxed{A}", "\\boxed{B}", "(A)"]])["maj"] == 1


def test_the_command_prints_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.strip() == str(FOLDER)


HUB_SCRIPT = """
import json
from r1k_train.tasks import functions as tasks

try:
    rows = tasks.aime24()["test"]
    print(json.dumps({"rows": len(rows), "origin": tasks.origin("r1k_aime24")}))
except tasks.DataMissing as error:
    print(json.dumps({"missing": str(error)}))
"""


def from_hub(server: HubServer, home: Path) -> dict[str, Any]:
    environment = client_environment(server, home)
    ran = subprocess.run([sys.executable, "-c", HUB_SCRIPT], env=environment, check=True, capture_output=True, text=True)
    said: dict[str, Any] = json.loads(ran.stdout)
    return said


def test_what_the_hub_holds_is_named_by_its_commit(tmp_path: Path) -> None:
    golds = "023 25 33 45 55 73 80 104 104 110 113 116 127 197 204 211 236 294 315 321 371 385 468 480 540 601 699 721 809 902"
    rows = [{"problem": f"Problem {number}?", "answer": gold} for number, gold in enumerate(golds.split())]
    repository = new_repository()
    with serve_hub(simplescaling__aime24_nofigures=repository) as server:
        for change, answer in (("first", "023"), ("another", "24")):
            rows[0]["answer"] = answer
            content = "".join(json.dumps(row) + "\n" for row in rows).encode()
            repository.commit("main", change, {"train.jsonl": content})
            said = from_hub(server, tmp_path / change)
            if answer == "023":
                assert said == {
                    "rows": 30,
                    "origin": {"dataset": "simplescaling/aime24_nofigures", "revision": repository.sha},
                }
            else:
                assert f"at {repository.sha} has other answers than aime24" in said["missing"]
    said = from_hub(server, tmp_path / "nobody")  # the server is gone
    assert "can't be read from the Hub" in said["missing"]
    assert "--file r1k_aime24=FILE" in said["missing"]


def test_pinned_revisions_are_commits() -> None:
    assert all(place.revision is None or re.fullmatch("[0-9a-f]{40}", place.revision) for place in tasks.HUB.values())
    assert {name for name, place in tasks.HUB.items() if place.revision is None} == set(tasks.GOLDS)


def test_a_file_is_named_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = lines(tmp_path / "m.jsonl", {"problem": "?", "answer": "3"})
    monkeypatch.setenv("R1K_MATH500", str(file))
    assert tasks.origin("r1k_math500") == {"file": "m.jsonl", "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    assert tasks.origin("r1k_bank_forward")["sha256"] == hashlib.sha256(BANK.read_bytes()).hexdigest()
