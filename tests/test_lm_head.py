"""LoRA on lm_head: what TRL's fused head computes, beside a dense float64 reference; saved and loaded as peft's."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from trl.trainer.utils import add_fused_lm_head

from r1k_train.lm_head import AdaptedHead, head_on_labels_alone, save_adapter_alone, show_adapted_head, untie
from tests.small_model import small_model

TARGETS = ["q_proj", "v_proj", "lm_head"]


def adapted(dtype: torch.dtype = torch.float32) -> Any:
    """A model with an adapter whose every matrix is away from zero."""
    base = small_model().to(dtype)
    show_adapted_head(base)
    torch.manual_seed(1)
    model: Any = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=TARGETS))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(0, 300, (2, 12), generator=torch.Generator().manual_seed(2))
    labels = ids.clone()
    labels[:, :5] = -100
    return ids, labels


def dense_loss(model: Any, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits = model(input_ids=ids).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1))


def test_fused_loss_and_gradients_are_the_dense_ones_in_float64() -> None:
    ids, labels = batch()
    model = adapted()
    dense = copy.deepcopy(model).double()
    expected = dense_loss(dense, ids, labels)
    expected.backward()  # type: ignore[no-untyped-call]

    add_fused_lm_head(model.get_base_model())
    loss = model(input_ids=ids, labels=labels, fused_lm_head=True).loss
    loss.backward()

    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    reference = dict(dense.named_parameters())
    trained = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
    assert sum("lm_head" in name for name, _ in trained) == 2
    for name, parameter in trained:
        wanted = reference[name].grad
        assert (parameter.grad.double() - wanted).norm() <= 1e-5 * wanted.norm(), name


def test_switched_off_the_head_is_the_base() -> None:
    ids, labels = batch()
    model = adapted()
    add_fused_lm_head(model.get_base_model())
    plain = small_model()
    with model.disable_adapter(), torch.no_grad():
        off = model(input_ids=ids, labels=labels, fused_lm_head=True).loss
        assert off.item() == pytest.approx(dense_loss(plain, ids, labels).item(), rel=1e-6)
        assert model.get_output_embeddings().weight is model.base_model.model.lm_head.base_layer.weight
    assert isinstance(model.get_output_embeddings(), AdaptedHead)


def test_saved_it_is_an_ordinary_adapter_without_the_base_head(tmp_path: Path) -> None:
    ids, _ = batch()
    model = adapted()
    save_adapter_alone(model)
    model.save_pretrained(tmp_path)
    names = load_file(tmp_path / "adapter_model.safetensors")
    assert {name.rsplit(".lora_", 1)[1] for name in names if "lm_head" in name} == {"A.weight", "B.weight"}
    assert not [name for name in names if "base_layer" in name or "embed_tokens" in name]

    ordinary = PeftModel.from_pretrained(small_model(), str(tmp_path))
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        assert torch.equal(ordinary(input_ids=ids).logits, expected)
        merged = ordinary.merge_and_unload()
        assert torch.allclose(merged(input_ids=ids).logits, expected, atol=1e-4)


def test_an_untied_head_learns_alone() -> None:
    model = small_model(tied=True)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    before = model(input_ids=torch.tensor([[1, 2]])).logits
    untie(model)
    assert torch.equal(model(input_ids=torch.tensor([[1, 2]])).logits, before)
    with torch.no_grad():
        model.lm_head.weight.add_(1)
    model.tie_weights()
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


def test_a_head_on_labels_alone_is_the_tiled_one_of_padded_rows() -> None:
    ids, labels = batch()
    labels[1, 9:] = -100
    seen = (torch.arange(12) < torch.tensor([[12], [9]])).long()
    tiled, alone = small_model(), small_model()
    for model in (tiled, alone):
        add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    head_on_labels_alone(alone)
    expected, found = (
        model(input_ids=ids, labels=labels, attention_mask=seen, fused_lm_head=True, use_cache=False)
        for model in (tiled, alone)
    )
    for name in ("log_probs", "entropy", "is_top1", "label_mask"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)
    for outputs in (expected, found):
        (-outputs.log_probs.sum() / 10).backward()
    for (name, wanted), had in zip(tiled.named_parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(had.grad, wanted.grad, rtol=1e-4, atol=1e-6, msg=name)
    assert torch.equal(alone(input_ids=ids).logits, tiled(input_ids=ids).logits)
