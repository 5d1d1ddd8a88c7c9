"""The report: cells found by what folders say, figures that a direct count gives, and nothing hostile let through."""

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from r1k_train import report
from r1k_train.paper import BENCHMARKS, PUBLISHED


def synthetic(
    folder: Path,
    shares: dict[str, float],
    size: str | None = "7B",
    steps: list[tuple[str, str]] | None = None,
    seed: int = 0,
    k: int = 1,
) -> Path:
    """An evaluation's folder of known truth: each response is right with its benchmark's chance."""
    draw = random.Random(seed)
    (folder / "samples").mkdir(parents=True)
    tasks: dict[str, Any] = {}
    for name, share in shares.items():
        items = []
        for row in range(BENCHMARKS.get(name, 50)):
            said = [{"correct": draw.random() < share, "judged": True} for _ in range(k)]
            items.append({"id": f"{name}-{row}", "gold": "1", "responses": said})
        (folder / "samples" / f"r1k_{name}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
        figures = {
            "rows": len(items),
            "samples": k,
            "maj": share,
            "pass": share,
            "unreadable": 0.02,
            "truncated": 0.1,
            "tokens": 6123.4,
        }
        tasks[f"r1k_{name}"] = figures
    made = [{"method": method, "dataset_config": config, "base_model": None} for method, config in steps or []]
    record: dict[str, Any] = {"format": 1, "model": {"name": "m", "base": "b", "size": size, "steps": made}, "tasks": tasks}
    record["data"] = {f"r1k_{name}": {"dataset": f"hub/{name}", "revision": "0" * 40} for name in shares}
    (folder / "evaluation.json").write_text(json.dumps(record | {"judge": {"model": "j", "mode": "s1-compatible"}}))
    return folder


SHARES = {"aime24": 0.2, "math500": 0.77, "gpqa_diamond": 0.4}


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "report.csv").open() as lines:
        return list(csv.DictReader(lines))


def test_measured_beside_published(tmp_path: Path) -> None:
    evaluation = synthetic(tmp_path / "misleading-14B-dpo", SHARES, "7B", [("sft", "reverse")])
    assert report.main([str(evaluation), "--out", str(tmp_path / "out")]) == 0
    filled = [line for line in table(tmp_path / "out") if line["measured"]]
    assert {(line["table"], line["row"], line["size"]) for line in filled} == {
        ("1", "D_r1k", "7B")
    }  # whatever the folder is called
    math = next(line for line in filled if line["benchmark"] == "math500")
    items = [json.loads(line) for line in (evaluation / "samples" / "r1k_math500.jsonl").read_text().splitlines()]
    share = 100 * sum(item["responses"][0]["correct"] for item in items) / 500
    assert float(math["measured"]) == pytest.approx(share)
    assert float(math["difference"]) == pytest.approx(share - 77.4)
    assert float(math["measured_low"]) < share < float(math["measured_high"])
    assert float(math["difference_low"]) < share - 77.4 < float(math["difference_high"])
    average = next(line for line in filled if line["benchmark"] == "average")
    thirds = [float(line["measured"]) for line in filled if line["benchmark"] != "average"]
    assert float(average["measured"]) == pytest.approx(sum(thirds) / 3, abs=0.01)


def test_cells_without_a_run_stay_empty(tmp_path: Path) -> None:
    report.main([str(synthetic(tmp_path / "one", SHARES, "7B", [("sft", "reverse")])), "--out", str(tmp_path / "out")])
    lines = table(tmp_path / "out")
    assert len(lines) == len(PUBLISHED) * 4
    assert all(
        line["measured"] == line["difference"] == line["evaluation"] == ""
        for line in lines
        if line["row"] != "D_r1k" or line["size"] != "7B"
    )


def test_one_evaluation_may_fill_two_tables(tmp_path: Path) -> None:
    report.main([str(synthetic(tmp_path / "one", SHARES, "7B", [("sft", "forward")])), "--out", str(tmp_path / "out")])
    assert {(line["table"], line["row"]) for line in table(tmp_path / "out") if line["measured"]} == {
        ("1", "D_s1k"),
        ("2", "DeepSeek-R1"),
    }


def test_half_an_evaluation_has_no_average(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.main([str(synthetic(tmp_path / "one", {"math500": 0.5}, "7B", [("sft", "reverse")]))])
    printed = capsys.readouterr().out
    [measured] = [line for line in printed.splitlines() if "measured (one)" in line]
    assert [bool(cell.strip()) for cell in measured.split("|")[4:8]] == [False, True, False, False]


def test_a_part_of_a_benchmark_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = synthetic(tmp_path / "one", SHARES, "7B", [("sft", "reverse")])
    file = evaluation / "samples" / "r1k_math500.jsonl"
    file.write_text("".join(line + "\n" for line in file.read_text().splitlines()[:10]))
    report.main([str(evaluation)])
    [measured] = [line for line in capsys.readouterr().out.splitlines() if "measured (one)" in line]
    assert "10 of 500" in measured.split("|")[5]
    assert "of 30" not in measured


def test_pairs_by_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    better = {"aime24": 0.5, "math500": 0.95, "gpqa_diamond": 0.6}
    folders = [synthetic(tmp_path / "one", better, seed=1), synthetic(tmp_path / "two", SHARES, seed=2)]
    report.main([str(folder) for folder in folders])
    printed = capsys.readouterr().out
    assert "one fills no cell: no run.json says how it was trained." in printed
    assert f"MATH-500: hub/math500 at {'0' * 40}." in printed
    cells = {line.split(" | ")[2]: line.split(" | ") for line in printed.splitlines() if line.startswith("| one | two |")}
    assert set(cells) == {"AIME24-NoFigures", "MATH-500", "GPQA diamond", "average"}
    assert cells["MATH-500"][7] == "< 0.001"
    shares = [
        [
            json.loads(line)["responses"][0]["correct"]
            for line in (folder / "samples" / "r1k_math500.jsonl").read_text().splitlines()
        ]
        for folder in folders
    ]
    assert int(cells["MATH-500"][4]) == sum(one and not other for one, other in zip(*shares, strict=True))
    assert float(cells["average"][7].strip(" |").removeprefix("< ")) < 0.01


def test_k_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.main([str(synthetic(tmp_path / "one", SHARES, k=4)), str(synthetic(tmp_path / "two", SHARES, seed=3, k=4))])
    assert "| one | MATH-500 | 500 | 4 |" in capsys.readouterr().out


def test_the_judge_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(synthetic(tmp_path / "one", SHARES)), "--scorer", "judge"]) == 0
    assert "Scored by judge j, s1-compatible." in capsys.readouterr().out


def test_published_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--published"]) == 0
    printed = capsys.readouterr().out
    assert "| D_s1k | 7B | 16.7 [7.4, 33.6] | 77.0 [73.1, 80.5] | 34.0 [27.8, 40.8] | 42.6 [38.6, 48.8] |" in printed
    for value in ("32.2", "34.0", "33.5", "47.2", "49.1", "34.6", "40.2"):
        assert f"| GPQA diamond {value} | no number of right answers to 198 problems gives it |" in printed
    assert "Table 1, D_0.5k 7B and Table 3, D_s1k 7B" in printed
    assert "GPQA diamond 35.9 | marked as a fall from 34.0" in printed
    assert "the mean of its row is 27.43" in printed
    pooled = {line.split(" | ")[1]: line for line in printed.splitlines() if line.startswith("| D_r1k - D_s1k")}
    assert [f"p {p} |" in pooled[size] for size, p in (("3B", "0.9"), ("7B", "0.28"), ("14B", "0.11"))] == [True] * 3
    assert "-21.0, z -7.0" in printed
    assert "measured" not in printed


def test_names_are_only_text(tmp_path: Path) -> None:
    name = "=<script>alert(1)</script>&|_%"
    evaluation = synthetic(tmp_path / name.replace("/", "-"), SHARES, "7B", [("sft", "reverse")])
    report.main([str(evaluation), "--out", str(tmp_path / "out")])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "\\&" in (tmp_path / "out" / "report.tex").read_text()
    assert {line["evaluation"][:2] for line in table(tmp_path / "out") if line["evaluation"]} == {"'="}


def test_same_input_same_report(tmp_path: Path) -> None:
    folders = [
        str(synthetic(tmp_path / name, SHARES, "7B", [("sft", config)], seed=seed))
        for name, config, seed in (("a", "reverse", 1), ("b", "mixed", 2))
    ]
    for out in ("x", "y"):
        assert report.main([*folders, "--out", str(tmp_path / out)]) == 0
    for name in ("report.md", "report.csv", "report.tex", "report.html"):
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()


def test_what_is_no_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(tmp_path)]) == 2
    assert "is not an evaluation" in capsys.readouterr().err
    for content in ("[]", '{"tasks": []}', '{"tasks": {"r1k_math500": 1}, "model": {"size": 7, "steps": [1]}}'):
        (tmp_path / "evaluation.json").write_text(content)
        assert report.main([str(tmp_path)]) == 2
    assert report.main([]) == 2
    assert report.main([str(tmp_path), "--published"]) == 2
