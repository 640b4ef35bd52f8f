"""Hugging Face's MobileViT as the benchmarks' scripts under another Python build it.

Needs torch and transformers, beside nothing else of this project.
"""

import torch
import transformers

# As in apple/mobilevit-*: transformer widths, widths from the stem to the expansion, MV2 expansion,
# dropout.
VARIANTS = {
    "mobilevit_xxs": ([64, 80, 96], [16, 16, 24, 48, 64, 80, 320], 2.0, 0.05),
    "mobilevit_xs": ([96, 120, 144], [16, 32, 48, 64, 80, 96, 384], 4.0, 0.1),
    "mobilevit_s": ([144, 192, 240], [16, 32, 64, 96, 128, 160, 640], 4.0, 0.1),
}


def config_of(variant: str, size: int, **more) -> transformers.MobileViTConfig:
    """The configuration of a variant; `more` are further fields of it."""
    hidden_sizes, neck_hidden_sizes, expand_ratio, dropout = VARIANTS[variant]
    return transformers.MobileViTConfig(
        image_size=size,
        hidden_sizes=hidden_sizes,
        neck_hidden_sizes=neck_hidden_sizes,
        expand_ratio=expand_ratio,
        hidden_dropout_prob=dropout,
        **more,
    )


class Logits(torch.nn.Module):
    """A model's logits alone, of which a converter can make an output."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=images).logits


def vary_norms(model: torch.nn.Module) -> None:
    """Gives norms the varied scales of trained ones, so that a converter cannot leave them out."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.LayerNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0.0, 0.2)
