"""TRL's own dataset code takes the folder as it is, and as the Hub serves it: no column is mapped by hand."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.command import run_here
from tests.hub_server import Repository, client_environment, serve_hub

pytest.importorskip("trl", reason="the train extra is not installed")

ROOT = Path(__file__).parents[1]

CLIENT = """
import copy, json, sys
import torch
from datasets import load_dataset
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from r1k_train.data import commit_of, load_rows

*places, cache = sys.argv[1:]
letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
base = Tokenizer(BPE(letters, [], unk_token=None))
base.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
from tokenizers.decoders import ByteLevel
base.decoder = ByteLevel()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=base, eos_token="<e>", pad_token="<p>")
tokenizer.chat_template = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
torch.manual_seed(0)
model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
    num_attention_heads=2, num_key_value_heads=2, pad_token_id=tokenizer.pad_token_id))
common = {"output_dir": cache, "use_cpu": True, "bf16": False, "report_to": [], "max_length": 2048, "max_steps": 1,
    "per_device_train_batch_size": 2, "save_strategy": "no", "disable_tqdm": True}
for place in places:
    sft_rows = load_dataset(place, split="train", cache_dir=cache)
    sft = SFTTrainer(model=model, args=SFTConfig(**common), train_dataset=sft_rows, processing_class=tokenizer)
    first = sft.train_dataset[0]
    batch = next(iter(sft.get_train_dataloader()))
    trained = batch["labels"] != -100
    prompts = [tokenizer.decode(ids[~mark & (ids != tokenizer.pad_token_id)]) for ids, mark in zip(batch["input_ids"], trained)]
    answers = [tokenizer.decode(ids[mark]) for ids, mark in zip(batch["input_ids"], trained)]
    sft.train()
    dpo_rows = load_dataset(place, "preference", split="train", cache_dir=cache)
    reference = copy.deepcopy(model)
    dpo = DPOTrainer(model, reference, DPOConfig(**common), train_dataset=dpo_rows, processing_class=tokenizer)
    pair = dpo.train_dataset[0]
    texts = {name: tokenizer.decode(ids) for name, ids in pair.items() if name.endswith("ids")}
    dpo.train()
    print(json.dumps({"prompts": prompts, "answers": answers, "columns": sorted(pair), "texts": texts,
        "commit": [commit_of(load_rows(place)), commit_of(load_rows(place, "preference"))],
        "rows": [len(sft.train_dataset), len(dpo.train_dataset)], "steps": [sft.state.global_step, dpo.state.global_step],
        "reverse": [[row["question"], row["completion"][0]["content"]] for row in sft_rows],
        "pair": {name: dpo_rows[0][name][0]["content"] for name in ("prompt", "chosen", "rejected")}}))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "r1k"
    words = ["--source", "embedded", "--teacher", "embedded", "--limit", "6", "--tokenizer", "none", "--output", str(folder)]
    assert run_here(*words).status == 0
    shutil.rmtree(folder / ".build")
    return folder


@pytest.fixture(scope="module")
def trained(built: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What TRL has made of `reverse` and `preference`, from the folder and from a Hub."""
    place = tmp_path_factory.mktemp("trained")
    with serve_hub(me__r1k=Repository(built)) as hub:
        environment = client_environment(hub, place / "home") | {"PYTHONPATH": str(ROOT)}
        environment.pop("USE_TORCH")
        command = [sys.executable, "-c", CLIENT, str(built), "me/r1k", str(place / "cache")]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    made = (json.loads(line) for line in ended.stdout.splitlines() if line.startswith('{"prompts"'))
    return dict(zip(("folder", "hub"), made, strict=True))


@pytest.mark.parametrize("place", ["folder", "hub"])
def test_trl_takes_the_columns_as_they_are(trained: dict[str, dict[str, Any]], place: str) -> None:
    made = trained[place]
    assert made["rows"] == [6, 12]
    assert made["steps"] == [1, 1]
    answers = dict(made["reverse"])
    for prompt, answer in zip(made["prompts"], made["answers"], strict=True):
        question = prompt.removeprefix("<user>").removesuffix("</user><assistant>")
        assert answer.startswith(answers[question]), "the completion alone is trained on"
    joined = " ".join(made["texts"].values())
    for name in ("prompt", "chosen", "rejected"):
        assert made["pair"][name] in joined


def test_a_run_knows_the_commit_that_its_rows_are_from(trained: dict[str, dict[str, Any]], built: Path) -> None:
    commit = Repository(built).sha
    assert trained["folder"]["commit"] == [None, None]
    assert trained["hub"]["commit"] == [commit, commit]
