import keras

from mobilevit_keras.layers import (
    ConvNormAct,
    InvertedResidual,
    MobileViTBlock,
    MobileViTV2Block,
)
from mobilevit_keras.layers.fake_quant import IMAGE_RANGE, ActivationQuantizer
from mobilevit_keras.layers.forms import QUANTIZED, TRAINING
from mobilevit_keras.models.variants import STAGE2_RESIDUALS, get_variant, variant_name
from mobilevit_keras.paper import MINIMUM_SIZE, NUM_LAYERS

# Strides of the inverted residuals that open stages 2 to 5, and the dilation of stage 5's, for each
# output stride. What a stage loses in stride, only the depthwise convolutions after it make up for.
_STRIDES = {32: (2, 2, 2, 2), 16: (2, 2, 2, 1), 8: (2, 2, 1, 1)}
_STAGE5_DILATION = {32: 1, 16: 1, 8: 2}
# MobileViTv2 makes up for it in its blocks, too: the dilations of stages 3 to 5's.
_SEPARABLE_DILATIONS = {32: (1, 1, 1), 16: (1, 1, 2), 8: (1, 2, 4)}

ATTENTIONS = tuple(STAGE2_RESIDUALS)


@keras.saving.register_keras_serializable("mobilevit_keras")
class MobileViTBackbone(keras.Model):
    """MobileViT or MobileViTv2 without its classifier: the maps of five stages.

    Args:
        stage_filters: Channels of stages 1 to 5.
        expand_ratio: Expansion of the inverted residuals.
        transformer_dims: Transformer channels of stages 3 to 5.
        num_layers: Transformer layers of stages 3 to 5.
        patch_size: Patch side of stages 3 to 5.
        stem_filters: Channels of the first convolution.
        num_heads: Attention heads; 1 of separable attention.
        use_fusion: See `MobileViTBlock`; False of separable attention.
        attention: "multi_head" is MobileViT, "separable" MobileViTv2; see `MobileViTV2Block`.
        output_stride: 32, 16 or 8: pixels of the image for each cell of the last map.
        dropout, attention_dropout, ffn_dropout: See `PreNormLayer`.
        activation: "silu" as in the paper, or another name such as "hard_swish".
        image_shape: `(H, W, 3)`; H and W may be None for any size from 32 up.
        form: "training", "deployment" with norms folded, or "quantized", fake-quantized too (see
            `mobilevit_keras.quantization`).
        dtype: Keras dtype policy, such as "mixed_float16"; the global one by default.
        name: Name of the model.

    Input shape: `(B, H, W, 3)`, RGB float32 in [0, 1].
    Output shape: `(B, H / output_stride, W / output_stride, stage_filters[4])`, rounded up; with
    separable attention up to multiples of the patch.

    `pyramid_outputs` maps "P1" to "P5" to the five stages' symbolic outputs.

    Raises:
        ValueError: If an argument is out of its range.

    Reference: [MobileViT](https://arxiv.org/abs/2110.02178), table 4;
        [MobileViTv2](https://arxiv.org/abs/2206.02680).
    """

    def __init__(
        self,
        stage_filters: tuple[int, ...],
        expand_ratio: float,
        transformer_dims: tuple[int, ...],
        num_layers: tuple[int, ...] = NUM_LAYERS,
        patch_size: tuple[int, ...] = (2, 2, 2),
        stem_filters: int = 16,
        num_heads: int = 4,
        use_fusion: bool = True,
        attention: str = "multi_head",
        output_stride: int = 32,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        ffn_dropout: float = 0.0,
        activation: str = "silu",
        image_shape: tuple[int | None, int | None, int] = (None, None, 3),
        form: str = TRAINING,
        dtype: str | None = None,
        name: str | None = None,
    ) -> None:
        dtype = keras.config.dtype_policy().name if dtype is None else dtype
        for argument, value, length in (
            ("stage_filters", stage_filters, 5),
            ("transformer_dims", transformer_dims, 3),
            ("num_layers", num_layers, 3),
            ("patch_size", patch_size, 3),
        ):
            if len(value) != length:
                raise ValueError(f"`{argument}` must hold {length} numbers. Received: {value}.")
        if output_stride not in _STRIDES:
            raise ValueError(
                f"`output_stride` must be one of {sorted(_STRIDES)}. Received: {output_stride}."
            )
        if attention not in ATTENTIONS:
            raise ValueError(f"`attention` must be one of {ATTENTIONS}. Received: {attention!r}.")
        if attention == "separable" and (num_heads != 1 or use_fusion):
            raise ValueError(
                "Separable attention has one head, and its block no fusion. "
                f"Received: num_heads={num_heads}, use_fusion={use_fusion}."
            )
        if len(image_shape) != 3 or image_shape[2] != 3:
            raise ValueError(f"`image_shape` must be (H, W, 3). Received: {tuple(image_shape)}.")
        if any(side is not None and side < MINIMUM_SIZE for side in image_shape[:2]):
            raise ValueError(
                f"Height and width must be at least {MINIMUM_SIZE} pixels. "
                f"Received: {tuple(image_shape)}."
            )

        # Layers
        common = {"activation": activation, "form": form, "dtype": dtype}
        strides = _STRIDES[output_stride]
        stem = ConvNormAct(stem_filters, 3, strides=2, name="stem", **common)
        stages = [[InvertedResidual(stage_filters[0], expand_ratio, name="stage1_0", **common)]]
        stages.append(
            [
                InvertedResidual(
                    stage_filters[1],
                    expand_ratio,
                    strides=strides[0] if i == 0 else 1,
                    name=f"stage2_{i}",
                    **common,
                )
                for i in range(STAGE2_RESIDUALS[attention])
            ]
        )
        if attention == "separable":
            block = MobileViTV2Block
            own = [{"dilation_rate": rate} for rate in _SEPARABLE_DILATIONS[output_stride]]
        else:
            block = MobileViTBlock
            own = [{"num_heads": num_heads, "use_fusion": use_fusion}] * 3
        for i in range(3):
            stages.append(
                [
                    InvertedResidual(
                        stage_filters[i + 2],
                        expand_ratio,
                        strides=strides[i + 1],
                        dilation_rate=_STAGE5_DILATION[output_stride] if i == 2 else 1,
                        name=f"stage{i + 3}_0",
                        **common,
                    ),
                    block(
                        transformer_dims[i],
                        num_layers[i],
                        patch_size=patch_size[i],
                        dropout=dropout,
                        attention_dropout=attention_dropout,
                        ffn_dropout=ffn_dropout,
                        name=f"stage{i + 3}_1",
                        **own[i],
                        **common,
                    ),
                ]
            )

        # Functional graph
        images = keras.Input(image_shape, name="images")
        x = images
        if form == QUANTIZED:
            # An 8-bit image's own grid: nothing of it is lost.
            x = ActivationQuantizer(fixed_range=IMAGE_RANGE, name="image_quantizer")(x)
        x = stem(x)
        pyramid_outputs = {}
        for number, stage in enumerate(stages, start=1):
            for layer in stage:
                x = layer(x)
            pyramid_outputs[f"P{number}"] = x
        super().__init__(inputs=images, outputs=x, name=name)
        self.pyramid_outputs = pyramid_outputs

        # Config
        self.config = {
            "stage_filters": tuple(stage_filters),
            "expand_ratio": expand_ratio,
            "transformer_dims": tuple(transformer_dims),
            "num_layers": tuple(num_layers),
            "patch_size": tuple(patch_size),
            "stem_filters": stem_filters,
            "num_heads": num_heads,
            "use_fusion": use_fusion,
            "attention": attention,
            "output_stride": output_stride,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "ffn_dropout": ffn_dropout,
            "activation": activation,
            "image_shape": tuple(image_shape),
            "form": form,
            "dtype": dtype,
        }

    @classmethod
    def from_variant(cls, variant: str, **overrides) -> "MobileViTBackbone":
        """Builds one of the variants, such as "mobilevit_s" or "mobilevitv2_100".

        Args:
            variant: Name in `mobilevit_keras.models.VARIANTS`.
            **overrides: Constructor arguments that replace the variant's.

        Raises:
            ValueError: If the variant is unknown.
        """
        return cls(**{**vars(get_variant(variant)), "name": variant, **overrides})

    @property
    def variant(self) -> str:
        """Name of the variant with these widths, "custom" where there is none."""
        widths = ("stage_filters", "expand_ratio", "transformer_dims", "attention")
        return variant_name(*(self.config[name] for name in widths)) or "custom"

    @property
    def map_multiples(self) -> tuple[int, int, int]:
        """What the sides of stages 3 to 5's maps are rounded up to multiples of."""
        separable = self.config["attention"] == "separable"
        return self.config["patch_size"] if separable else (1, 1, 1)

    def attention(self, images) -> dict:
        """How much attention each place receives in the blocks of stages 3 to 5.

        Of multi-head attention a place's part is the mean over all queries and heads, of separable
        attention its score in the context; of both the mean over the block's layers.

        Args:
            images: `(B, H, W, 3)`, what the model is called with.

        Returns:
            float32 `(B, h, w)` for "P3" to "P5", whose sum is 1. They cover the image; h and w are
            those of the stage's map, rounded up to multiples of the patch.
        """
        maps, x = {}, images
        # The graph is a chain; what comes first is its input.
        for layer in self.layers[1:]:
            if isinstance(layer, MobileViTBlock | MobileViTV2Block):
                maps[f"P{3 + len(maps)}"] = layer.attention(x)
            x = layer(x, training=False)
        return maps

    def get_config(self) -> dict:
        return {**self.config, "name": self.name}

    @classmethod
    def from_config(cls, config: dict) -> "MobileViTBackbone":
        return cls(**config)
