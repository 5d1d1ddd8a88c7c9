"""r1k-build as a peer of itself: see compare.py."""

import argparse
import json
from pathlib import Path

from r1k_builder import cli


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--concurrency", required=True)
    options = parser.parse_args()
    words = ["--source", str(options.source), "--output", str(options.output), "--base-url", options.base_url, "--resume"]
    words += ["--model", "benchmark", "--concurrency", options.concurrency, "--tokenizer", "none", "--benchmarks", "none"]
    status = cli.main(words)
    if status not in (0, 3):
        raise SystemExit(status)
    rows = json.loads((options.output / ".build" / "manifest.json").read_text())["rows"]
    print(json.dumps({"rows": rows["accepted"] + rows["rejected"]}))


if __name__ == "__main__":
    main()
