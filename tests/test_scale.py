"""The tables of docs/scale.md are what their constants give; the benchmark of a million rows works on a hundred."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_tables_of_the_document_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "scale.md").read_text()
    assert re.findall(r"<!-- sizes:(\w+) -->", text) == ["constants", "teacher", "builder", "limits"]
    sizes = runpy.run_path(str(ROOT / "benchmarks" / "sizes.py"))
    assert sizes["filled"](text) == text, "type  python benchmarks/sizes.py --write docs/scale.md"
    assert sizes["filled"](re.sub(r"\n\| 1,0+ .*", "", text)) == text


def test_more_rows_need_more_of_everything_but_memory() -> None:
    sizes = runpy.run_path(str(ROOT / "benchmarks" / "sizes.py"))
    for needed in ("node_days", "nodes", "in_flight", "hosted", "exporting"):
        small, large = (sizes[needed](rows) for rows in (10**6, 10**8))
        assert large > 50 * small > 0, needed


@pytest.mark.slow
def test_the_benchmark_of_a_million_rows(tmp_path: Path) -> None:
    words = [str(ROOT / "benchmarks" / "scale.py"), "--work", str(tmp_path), "--pairs", "50"]
    said = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    assert "100 rows: exported" in said
    assert "loads: 50 rows of reverse" in said
