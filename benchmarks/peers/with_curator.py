"""Bespoke Labs' Curator as a peer: see compare.py."""

import json
import os
from importlib import import_module

from arguments import read

UNLIMITED = 1_000_000_000
"""Requests and tokens a minute, of which it would else take few: the host says nothing of its limits."""


def main() -> None:
    options = read(__doc__)
    os.environ |= {
        "TELEMETRY_ENABLED": "false",  # a benchmark tells nobody of itself
        "CURATOR_VIEWER": "false",
        "LITELLM_LOCAL_MODEL_COST_MAP": "true",
        "HF_HUB_OFFLINE": "1",
        "HOME": str(options.output),  # an id of the user's is written there
        "HF_HOME": str(options.output / "huggingface"),
        "CURATOR_CACHE_DIR": str(options.output / "curator"),
        "OPENAI_API_KEY": "none",
    }
    from bespokelabs import curator  # reads the environment

    import_module("litellm.litellm_core_utils.default_encoding")  # brings the tokenizer that would be downloaded

    teacher = curator.LLM(
        model_name="benchmark",
        backend="openai",
        backend_params={
            "base_url": options.base_url,
            "max_concurrent_requests": options.concurrency,
            "max_requests_per_minute": UNLIMITED,
            "max_tokens_per_minute": UNLIMITED,
        },
    )
    invert, solve = options.templates["invert"], options.templates["solve"]
    with options.source.open() as lines:
        rows = [json.loads(line) for line in lines]
    prompts = [invert.replace("{question}", row["question"]).replace("{answer}", row["solution"]) for row in rows]
    inverted = teacher(prompts).dataset["response"]
    asked = [reply.partition("New Question:")[2].partition("New Answer:")[0].strip() for reply in inverted]
    solved = teacher([solve.replace("{question}", question) for question in asked]).dataset["response"]
    print(json.dumps({"rows": sum(answer is not None for answer in solved)}))


if __name__ == "__main__":
    main()
