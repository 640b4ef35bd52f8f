"""The one table of MobileViT's variants, of both generations."""

import dataclasses

STAGE2_RESIDUALS = {"multi_head": 3, "separable": 2}
"""Inverted residuals of stage 2, by the attention of the stages after it."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """What tells one variant from another; the fields are arguments of `MobileViTBackbone`.

    Attributes:
        stage_filters: Channels of stages 1 to 5.
        expand_ratio: Expansion of every inverted residual.
        transformer_dims: Transformer channels of stages 3 to 5.
        dropout: Dropout rate inside the transformers.
        attention: "multi_head", or "separable", MobileViTv2's.
        num_heads: Attention heads.
        use_fusion: Whether each block's output is joined to its input.
        stem_filters: Channels of the first convolution.
    """

    stage_filters: tuple[int, int, int, int, int]
    expand_ratio: int
    transformer_dims: tuple[int, int, int]
    dropout: float
    attention: str = "multi_head"
    num_heads: int = 4
    use_fusion: bool = True
    stem_filters: int = 16


def _v2(stem: int, stages: tuple[int, ...], dims: tuple[int, int, int]) -> Variant:
    return Variant(
        stages, 2, dims, 0.0, "separable", num_heads=1, use_fusion=False, stem_filters=stem
    )


# Paper, table 4 in the appendix; dropout as in the authors' recipes. MobileViTv2, arXiv 2206.02680:
# the authors' configuration; a name ends in hundredths of the width.
VARIANTS = {
    "mobilevit_xxs": Variant((16, 24, 48, 64, 80), 2, (64, 80, 96), 0.05),
    "mobilevit_xs": Variant((32, 48, 64, 80, 96), 4, (96, 120, 144), 0.1),
    "mobilevit_s": Variant((32, 64, 96, 128, 160), 4, (144, 192, 240), 0.1),
    "mobilevitv2_050": _v2(16, (32, 64, 128, 192, 256), (64, 96, 128)),
    "mobilevitv2_075": _v2(24, (48, 96, 192, 288, 384), (96, 144, 192)),
    "mobilevitv2_100": _v2(32, (64, 128, 256, 384, 512), (128, 192, 256)),
    "mobilevitv2_125": _v2(40, (80, 160, 320, 480, 640), (160, 240, 320)),
    "mobilevitv2_150": _v2(48, (96, 192, 384, 576, 768), (192, 288, 384)),
    "mobilevitv2_175": _v2(56, (112, 224, 448, 672, 896), (224, 336, 448)),
    "mobilevitv2_200": _v2(64, (128, 256, 512, 768, 1024), (256, 384, 512)),
}


def get_variant(name: str) -> Variant:
    """Returns the variant called `name`.

    Raises:
        ValueError: If there is none; the message lists those there are.
    """
    if name not in VARIANTS:
        raise ValueError(f"The variant must be one of {sorted(VARIANTS)}. Received: {name!r}.")
    return VARIANTS[name]


def variant_name(stage_filters, expand_ratio, transformer_dims, attention) -> str | None:
    """Returns the variant with these widths and this attention, or None where it is nobody's."""
    for name, variant in VARIANTS.items():
        if (
            variant.stage_filters == tuple(stage_filters)
            and variant.expand_ratio == expand_ratio
            and variant.transformer_dims == tuple(transformer_dims)
            and variant.attention == attention
        ):
            return name
    return None
