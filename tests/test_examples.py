"""The job files of examples/ do what they say: parsed, and their commands run as the scheduler would."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from r1k_builder import cli
from r1k_builder.shards import Shard
from tests.command import run_here

EXAMPLES = Path(__file__).parents[1] / "examples"
BANK = ["--source", "embedded", "--teacher", "embedded", "--tokenizer", "none", "--limit", "12"]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., None]:
    """Runs a job's command as the scheduler would, in a shell with the environment that it sets. What it asks r1k-build for is
    then done by r1k-build, in this process."""
    given = tmp_path / "given"
    command = tmp_path / "bin" / "r1k-build"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" > {given}\n")
    command.chmod(0o755)
    settings = {"PATH": f"{command.parent}:{os.environ['PATH']}", "OUTPUT": str(tmp_path / "r1k"), "SHARDS": "2"}

    def run(*words: str, **environment: str) -> None:
        subprocess.run(words, check=True, env=os.environ | settings | environment)
        ended = run_here(*given.read_text().split("\0")[:-1])
        assert ended.status == 0, ended

    return run


def jobs() -> dict[str, Any]:
    """The Jobs of kubernetes.yaml by their step."""
    return {job["metadata"]["labels"]["step"]: job for job in yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text())}


def container(job: dict[str, Any]) -> dict[str, Any]:
    (only,) = job["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = only
    return found


def rows_of(folder: Path) -> list[str]:
    found: list[str] = pq.read_table(folder / "reverse")["id"].to_pylist()
    return found


def test_the_array_job_builds_and_exports(tmp_path: Path, run: Callable[..., None]) -> None:
    script = EXAMPLES / "slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "#SBATCH --array=1-16" in script.read_text().splitlines()
    for task in ("1", "2"):
        run("bash", str(script), *BANK, SLURM_ARRAY_TASK_ID=task)
    run("bash", str(script), SLURM_ARRAY_TASK_ID="0")
    assert len(rows_of(tmp_path / "r1k")) == 12


def test_the_indexed_job_builds_and_exports(tmp_path: Path, run: Callable[..., None]) -> None:
    build, export = jobs()["build"]["spec"], jobs()["export"]["spec"]
    settings = {entry["name"]: entry["value"] for entry in container(jobs()["build"])["env"]}
    assert build["completionMode"] == "Indexed"
    assert build["completions"] == build["parallelism"] == int(settings["SHARDS"])
    assert build["template"]["spec"]["volumes"] == export["template"]["spec"]["volumes"]
    for index in ("1", "0"):
        run(*container(jobs()["build"])["command"], *BANK, JOB_COMPLETION_INDEX=index)
    *command, place = container(jobs()["export"])["command"]
    assert place == settings["OUTPUT"]
    run(*command, str(tmp_path / "r1k"))
    assert len(rows_of(tmp_path / "r1k")) == 12


def test_the_options_that_the_examples_give_are_options() -> None:
    words = ["--resume", "--shard", "1/16", *container(jobs()["build"])["args"]]
    options = cli.make_parser().parse_all(words)
    assert Shard.parse(options.shard) == Shard(1, 16)
    assert cli.make_config(cli.given_settings(options)).teacher.host_model == "my-model"
