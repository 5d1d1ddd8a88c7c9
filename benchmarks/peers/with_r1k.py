"""r1k-build as a peer of itself: see compare.py."""

import json

from arguments import read

from r1k_builder import cli


def main() -> None:
    options = read(__doc__)
    words = ["--source", str(options.source), "--output", str(options.output), "--base-url", options.base_url, "--resume"]
    words += ["--model", "benchmark", "--concurrency", str(options.concurrency), "--tokenizer", "none", "--benchmarks", "none"]
    status = cli.main(words)
    if status not in (0, 3):
        raise SystemExit(status)
    rows = json.loads((options.output / ".build" / "manifest.json").read_text())["rows"]
    print(json.dumps({"rows": rows["accepted"] + rows["rejected"]}))


if __name__ == "__main__":
    main()
