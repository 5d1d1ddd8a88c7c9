"""Every test runs without keys, without a network, and with caches of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fake_host import FakeHost, serve

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job ignores it, and all that it starts
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}


@pytest.fixture(autouse=True)
def _scrubbed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_TOKEN")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An r1k folder of the embedded teacher, by the builder's own command."""
    path = tmp_path_factory.mktemp("data") / "r1k"
    words = ["--source", "embedded", "--teacher", "embedded", "--limit", "40", "--tokenizer", "none", "--output", str(path)]
    subprocess.run(
        [sys.executable, "-m", "r1k_builder", *words], check=True, cwd=Path(__file__).parents[1], capture_output=True
    )
    return path


@pytest.fixture
def host() -> Iterator[FakeHost]:
    """A well-behaved host; a test changes `script`, `latency` or `cap` as it likes."""
    with serve(FakeHost()) as running:
        yield running


@pytest.fixture
def questions(tmp_path: Path) -> Callable[[int], Path]:
    """Makes a JSONL source of n forward examples, with reasoning."""

    def make(count: int, name: str = "source.jsonl", extra: str = "") -> Path:
        import json

        path = tmp_path / name
        rows = (
            {
                "question": f"What is {n} + {n}?{extra}",
                "solution": f"The sum is ${2 * n}$.",
                "deepseek_thinking_trajectory": f"Adding {n} to itself gives {2 * n}.",
                "deepseek_attempt": f"It is \\boxed{{{2 * n}}}.",
                "cot_type": ("math", "science")[n % 2],
                "source_type": "tests",
            }
            for n in range(count)
        )
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return make
