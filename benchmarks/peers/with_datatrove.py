"""datatrove's InferenceRunner as a peer: see compare.py."""

import argparse
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

from datatrove.data import Document
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.writers import JsonlWriter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    options = parser.parse_args()
    templates = json.loads(options.source.with_name("templates.json").read_text())

    async def ask(generate: Callable[[Any], Awaitable[Any]], prompt: str) -> str:
        return str((await generate({"messages": [{"role": "user", "content": prompt}]})).text)

    async def rollout(document: Any, generate: Callable[[Any], Awaitable[Any]]) -> dict[str, str]:
        invert = templates["invert"].replace("{question}", document.text)
        inverted = await ask(generate, invert.replace("{answer}", document.metadata["solution"]))
        asked = inverted.partition("New Question:")[2].partition("New Answer:")[0].strip()
        return {"inverted": inverted, "answer": await ask(generate, templates["solve"].replace("{question}", asked))}

    with options.source.open() as lines:
        rows = [json.loads(line) for line in lines]
    config = InferenceConfig(
        server_type="endpoint",
        model_name_or_path="benchmark",
        endpoint_url=options.base_url.removesuffix("/v1"),
        max_concurrent_generations=options.concurrency,
    )
    answers = options.output / "answers"
    writer = JsonlWriter(str(answers), output_filename="${rank}_${chunk_index}.jsonl", compression=None)
    runner = InferenceRunner(rollout, config, writer, checkpoints_local_dir=str(options.output / "checkpoints"))
    runner.run(
        Document(text=row["question"], id=str(number), metadata={"solution": row["solution"]})
        for number, row in enumerate(rows)
    )
    print(json.dumps({"rows": sum(len(path.read_text().splitlines()) for path in answers.glob("*.jsonl"))}))


if __name__ == "__main__":
    main()
