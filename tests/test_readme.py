"""Nothing in the README that can be typed may be wrong: each shell line is parsed or run, each Python block is run."""

import re
import shlex
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from r1k_builder import cli, hub
from r1k_builder.errors import UsageError
from r1k_builder.review import command as review

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
SHELL_LINES = [
    line.split("#")[0].strip()
    for language, block in BLOCKS
    if language == "sh"
    for line in block.splitlines()
    if line.split("#")[0].strip()
]
PYTHON_BLOCKS = [block for language, block in BLOCKS if language == "python"]


def check(words: list[str]) -> None:
    """Fail unless this command line is one that works."""
    command, *rest = words
    if command == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif command == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        named = re.findall(r"\[(\w+)\]", " ".join(rest))
        assert rest[0] == "install"
        assert set(named) <= set(extras)
    elif command == "export":
        assert re.fullmatch(r"\w+_API_KEY=\.\.\.|VLLM_ALLOW_LONG_MAX_MODEL_LEN=1", rest[0])
    elif command == "vllm":  # what it takes can't be tried here
        assert rest[0] == "serve"
    elif command == "accelerate":
        assert rest[:2] == ["launch", "r1k_train"]
        import_module(f"r1k_train.{rest[2]}").make_parser().parse_args_and_config(
            [*rest[3:], "--use_cpu", "true", "--bf16", "false"]
        )
    elif command == "python" and rest[:3] == ["-m", "r1k_train", "plan"]:
        import_module("r1k_train.plan").make_parser().parse_known_args(rest[3:])
    elif command == "python" and rest[:2] == ["-m", "r1k_train"]:
        import_module(f"r1k_train.{rest[2]}").make_parser().parse_args(rest[3:])
    elif command == "python":
        assert rest[:2] == ["-m", "r1k_builder.embedded"]
    elif command == "r1k-build" and rest and rest[0] in {"status", "export", "verify", "compact"}:
        cli.folder_argument(rest[0], "", rest[1:])
    elif command == "r1k-build" and rest and rest[0] == "review":
        cli.review_parser().parse_all(rest[1:])
    elif command == "r1k-build" and rest and rest[0] == "push":
        hub.Target(cli.push_arguments(rest[1:]).repo_id)
    elif command == "r1k-build":
        cli.make_config(cli.given_settings(cli.make_parser().parse_all(rest)))
    else:
        pytest.fail(f"no check for {words}")


def test_there_are_shell_lines_of_every_kind() -> None:
    assert {shlex.split(line)[0] for line in SHELL_LINES} == {
        "make",
        "pip",
        "export",
        "r1k-build",
        "python",
        "accelerate",
        "vllm",
    }


@pytest.mark.parametrize("line", SHELL_LINES)
def test_shell_line(line: str) -> None:
    check(shlex.split(line))


@pytest.mark.parametrize(
    "line",
    [
        line.strip()
        for text in (cli.EXAMPLES, cli.VERIFY_EXAMPLES, review.EXAMPLES)
        for line in text.splitlines()
        if line.strip().startswith("r1k-build")
    ],
)
def test_help_example(line: str) -> None:
    check(shlex.split(re.split(r"  +", line)[0]))


def test_a_wrong_line_would_be_seen() -> None:
    with pytest.raises(UsageError):
        check(["r1k-build", "--no-such-option"])
    with pytest.raises(AssertionError):
        check(["make", "no-such-target"])


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--source", "embedded", "--teacher", "embedded", "--limit", "12", "--tokenizer", "none"]
    assert cli.main(arguments) == 0
    assert PYTHON_BLOCKS
    for block in PYTHON_BLOCKS:
        names: dict[str, object] = {}
        exec(compile(block.replace('split="train")', 'split="train", cache_dir="cache")'), "README.md", "exec"), names)  # noqa: S102
        assert len(names["reverse"]) == 12  # type: ignore[arg-type]
        assert len(names["pairs"]) == 24  # type: ignore[arg-type]
