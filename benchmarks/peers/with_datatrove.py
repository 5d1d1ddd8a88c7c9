"""datatrove's InferenceRunner as a peer: see compare.py."""

import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

from arguments import read
from datatrove.data import Document
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.writers import JsonlWriter


def main() -> None:
    options = read(__doc__)

    async def ask(generate: Callable[[Any], Awaitable[Any]], prompt: str) -> str:
        return str((await generate({"messages": [{"role": "user", "content": prompt}]})).text)

    async def rollout(document: Any, generate: Callable[[Any], Awaitable[Any]]) -> dict[str, str]:
        invert = options.templates["invert"].replace("{question}", document.text)
        inverted = await ask(generate, invert.replace("{answer}", document.metadata["solution"]))
        asked = inverted.partition("New Question:")[2].partition("New Answer:")[0].strip()
        return {"inverted": inverted, "answer": await ask(generate, options.templates["solve"].replace("{question}", asked))}

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
