"""The one table of MobileViT's variants."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Variant:
    """What tells one variant from another; the fields are arguments of `MobileViTBackbone`.

    Attributes:
        stage_filters: Channels of stages 1 to 5.
        expand_ratio: Expansion of every inverted residual.
        transformer_dims: Transformer channels of stages 3 to 5.
        dropout: Dropout rate inside the transformers.
    """

    stage_filters: tuple[int, int, int, int, int]
    expand_ratio: int
    transformer_dims: tuple[int, int, int]
    dropout: float


# Paper, table 4 in the appendix; dropout as in the authors' recipes.
VARIANTS = {
    "mobilevit_xxs": Variant((16, 24, 48, 64, 80), 2, (64, 80, 96), 0.05),
    "mobilevit_xs": Variant((32, 48, 64, 80, 96), 4, (96, 120, 144), 0.1),
    "mobilevit_s": Variant((32, 64, 96, 128, 160), 4, (144, 192, 240), 0.1),
}


def get_variant(name: str) -> Variant:
    """Returns the variant called `name`.

    Raises:
        ValueError: If there is none; the message lists those there are.
    """
    if name not in VARIANTS:
        raise ValueError(f"The variant must be one of {sorted(VARIANTS)}. Received: {name!r}.")
    return VARIANTS[name]


def variant_name(stage_filters, expand_ratio, transformer_dims) -> str | None:
    """Returns the name of the variant with these widths, or None where it is nobody's."""
    for name, variant in VARIANTS.items():
        if (
            variant.stage_filters == tuple(stage_filters)
            and variant.expand_ratio == expand_ratio
            and variant.transformer_dims == tuple(transformer_dims)
        ):
            return name
    return None
