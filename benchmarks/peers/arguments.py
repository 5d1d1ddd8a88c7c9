"""What compare.py tells a peer. Nothing but the standard library: every peer imports it in an environment of its own."""

import argparse
import json
from pathlib import Path
from typing import NamedTuple


class Arguments(NamedTuple):
    source: Path
    """JSONL with `question` and `solution`."""
    output: Path
    base_url: str
    concurrency: int
    """Requests in flight."""
    templates: dict[str, str]
    """`invert` and `solve`, with {question} and {answer}."""


def read(description: str | None) -> Arguments:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    options = parser.parse_args()
    return Arguments(**vars(options), templates=json.loads(options.source.with_name("templates.json").read_text()))
