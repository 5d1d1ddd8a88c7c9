"""distilabel as a peer: see compare.py."""

import json
import os

from arguments import read


def main() -> None:
    options = read(__doc__)
    os.environ |= {
        "DISTILABEL_LOG_LEVEL": "ERROR",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_HOME": str(options.output / "huggingface"),
    }
    from distilabel.models import OpenAILLM  # reads the environment
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromFileSystem
    from distilabel.steps.tasks import TextGeneration

    invert = options.templates["invert"].replace("{question}", "{{ question }}").replace("{answer}", "{{ solution }}")
    asked = "{% set asked = inverted.split('New Question:')[1].split('New Answer:')[0] | trim %}"
    solve = asked + options.templates["solve"].replace("{question}", "{{ asked }}")
    batch = max(1, options.concurrency // 2)  # a batch is asked at once, and both steps have one
    with Pipeline(name="benchmark", cache_dir=options.output) as pipeline:
        rows = LoadDataFromFileSystem(name="rows", data_files=str(options.source), batch_size=batch)
        steps = [
            TextGeneration(
                name=name,
                template=template,
                columns=columns,
                llm=OpenAILLM(model="benchmark", base_url=options.base_url, api_key="none"),
                input_batch_size=batch,
                output_mappings={"generation": name, "model_name": f"{name}_by"},
            )
            for name, template, columns in (
                ("inverted", invert, ["question", "solution"]),
                ("answer", solve, ["inverted"]),
            )
        ]
        rows >> steps[0] >> steps[1]
    done = pipeline.run()["default"]["train"]
    print(json.dumps({"rows": sum(answer is not None for answer in done["answer"])}))


if __name__ == "__main__":
    main()
