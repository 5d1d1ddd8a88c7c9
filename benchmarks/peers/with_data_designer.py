"""NeMo Data Designer as a peer: see compare.py."""

import json
import os

os.environ["NEMO_TELEMETRY_ENABLED"] = "false"  # a benchmark tells nobody of itself

from arguments import read
from data_designer import config as dd
from data_designer.interface import DataDesigner


def main() -> None:
    options = read(__doc__)
    invert = options.templates["invert"].replace("{question}", "{{ question }}").replace("{answer}", "{{ solution }}")
    asked = "{{ inverted.split('New Question:')[1].split('New Answer:')[0] | trim }}"
    os.environ["BENCHMARK_KEY"] = "none"
    provider = dd.ModelProvider(name="host", endpoint=options.base_url, api_key="BENCHMARK_KEY")
    parameters = dd.ChatCompletionInferenceParams(max_parallel_requests=options.concurrency)
    model = dd.ModelConfig(
        alias="teacher", model="benchmark", provider="host", inference_parameters=parameters, skip_health_check=True
    )
    builder = dd.DataDesignerConfigBuilder(model_configs=[model])
    builder.with_seed_dataset(dd.LocalFileSeedSource(path=str(options.source)))
    builder.add_column(dd.LLMTextColumnConfig(name="inverted", prompt=invert, model_alias="teacher"))
    builder.add_column(
        dd.LLMTextColumnConfig(
            name="answer",
            prompt=options.templates["solve"].replace("{question}", asked),
            model_alias="teacher",
            extract_reasoning_content=True,
        )
    )
    designer = DataDesigner(options.output, model_providers=[provider])
    designer.set_run_config(dd.RunConfig(buffer_size=100, disable_early_shutdown=True))
    with options.source.open() as lines:
        rows = sum(1 for _ in lines)
    done = designer.create(builder, num_records=rows, resume=dd.ResumeMode.IF_POSSIBLE).load_dataset()
    print(json.dumps({"rows": int(done["answer"].notna().sum())}))


if __name__ == "__main__":
    main()
