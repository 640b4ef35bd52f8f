"""Writes Hugging Face's DeepLabv3 on MobileViT as a .tflite file, converted by litert-torch.

Runs under the Python that `segmentation_latency` is given, which needs torch, transformers and
litert-torch, beside nothing else of this project. Images in [0, 1] in, logits at the output stride
out, both channels last.
"""

import argparse

import litert_torch
import torch
import transformers
from torch_step import VARIANTS


class Logits(torch.nn.Module):
    """The model's logits alone, of which a converter can make an output."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=images).logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output")
    parser.add_argument("--variant", required=True, choices=VARIANTS)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--num-classes", type=int, required=True)
    options = parser.parse_args()
    torch.manual_seed(0)
    hidden_sizes, neck_hidden_sizes, expand_ratio, dropout = VARIANTS[options.variant]
    config = transformers.MobileViTConfig(
        image_size=options.size,
        hidden_sizes=hidden_sizes,
        neck_hidden_sizes=neck_hidden_sizes,
        expand_ratio=expand_ratio,
        hidden_dropout_prob=dropout,
        output_stride=16,
        num_labels=options.num_classes,
    )
    model = transformers.MobileViTForSemanticSegmentation(config)
    for module in model.modules():
        # Norms that a converter cannot leave out.
        if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.LayerNorm)):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0.0, 0.2)
    channels_last = litert_torch.to_channel_last_io(Logits(model).eval(), args=[0], outputs=[0])
    images = (torch.rand(1, options.size, options.size, 3),)
    litert_torch.convert(channels_last.eval(), images).export(options.output)
    print(f"litert-torch {litert_torch.__version__} transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
