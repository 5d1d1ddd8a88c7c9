"""LoRA on `lm_head`, which the paper trains (A.4.1) and TRL's fused head would pass by.

The adapter is peft's own, so it is saved, loaded, copied, switched off and merged like any other. TRL never calls the head: it
reads `get_output_embeddings().weight`, and refuses a head that is peft's. So the model shows it a head whose weight is
W + s·BA. In bfloat16 that sum is rounded as a merge rounds it: what is trained is what will be served.

Not under ZeRO-3 or FSDP, which hold no weight whole outside the call of its own layer.
"""

from functools import partial, wraps
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from trl.trainer.utils import FusedCausalLMOutput


class AdaptedHead:
    """A head with peft's adapter on it, as a plain linear layer with the sum as its weight, [vocabulary, hidden]."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def __call__(self, states: Tensor) -> Tensor:
        logits: Tensor = self.layer(states)
        return logits

    @property
    def bias(self) -> Tensor | None:
        bias: Tensor | None = self.layer.bias
        return bias

    @property
    def weight(self) -> Tensor:
        base: Tensor = self.layer.get_base_layer().weight
        if self.layer.disable_adapters or self.layer.merged:
            return base
        weight = base
        for name in self.layer.active_adapters:
            if name in self.layer.lora_A:
                weight = weight + self._update(name).to(base.dtype)
        return weight

    def _update(self, name: str) -> Tensor:
        update: Tensor = self.layer.lora_B[name].weight @ self.layer.lora_A[name].weight * self.layer.scaling[name]
        return update


def show_adapted_head(model: Any) -> None:
    """From now on `model.get_output_embeddings()` is an AdaptedHead wherever the head has an adapter."""
    plain = model.get_output_embeddings

    def get_output_embeddings() -> Any:
        head = plain()
        return AdaptedHead(head) if isinstance(head, LoraLayer) else head

    model.get_output_embeddings = get_output_embeddings


def head_on_labels_alone(model: Any) -> None:
    """From now on the fused head that TRL gave `model` sees labelled positions only, whose logits are held whole.

    On a CPU TRL's scores every position, prompts and padding too, and computes each logit twice: that saves memory where the
    vocabulary is large, and of a tiny model it is most of a step. Batches are padded on the right.
    """
    tiled = model.forward

    @wraps(tiled)
    def forward(*args: Any, fused_lm_head: bool = False, **given: Any) -> Any:
        if not fused_lm_head:
            return tiled(*args, **given)
        labels = given.pop("labels")[:, 1:]
        given.pop("attention_mask", None)  # padding comes last, where no token of a row sees it; so attention is quicker
        mask = labels != -100
        states = model.base_model(*args, **given).last_hidden_state[:, :-1][mask]
        logps = model.get_output_embeddings()(states).log_softmax(dim=-1)
        with torch.no_grad():
            entropy = -(logps.exp() * logps).sum(dim=-1)
            first = logps.argmax(dim=-1) == labels[mask]
        found = logps.gather(1, labels[mask][:, None])[:, 0]
        return FusedCausalLMOutput(
            log_probs=found.new_zeros(mask.shape).masked_scatter(mask, found),
            entropy=entropy.new_zeros(mask.shape).masked_scatter(mask, entropy),
            is_top1=torch.zeros_like(mask).masked_scatter(mask, first),
            label_mask=mask,
        )

    model.forward = forward


def save_adapter_alone(model: nn.Module) -> None:
    """From now on saving `model` writes its trained adapter and nothing else.

    peft adds the whole base head to an adapter that targets it (1.09 GB at 7B), and TRL's copy for the reference.
    """
    if isinstance(model, PeftModel):
        model.save_pretrained = partial(  # type: ignore[method-assign]
            model.save_pretrained, save_embedding_layers=False, selected_adapters=["default"]
        )


def untie(model: Any) -> None:
    """Give the head a copy of the embeddings that it shares (Qwen2.5-3B: 0.6 GB more in bfloat16)."""
    model.get_output_embeddings().weight = nn.Parameter(model.get_input_embeddings().weight.detach().clone())
    model.config.tie_word_embeddings = False
    model.config.get_text_config().tie_word_embeddings = False
    model.all_tied_weights_keys = {}
