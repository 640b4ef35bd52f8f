"""Writes Hugging Face's DeepLabv3 on MobileViT as a .tflite file, converted by litert-torch.

Runs under the Python that `segmentation_latency` is given, which needs torch, transformers and
litert-torch, beside nothing else of this project. Images in [0, 1] in, logits at the output stride
out, both channels last.
"""

import argparse

import litert_torch
import torch
import transformers
from torch_models import VARIANTS, Logits, config_of, vary_norms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output")
    parser.add_argument("--variant", required=True, choices=VARIANTS)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--num-classes", type=int, required=True)
    options = parser.parse_args()
    torch.manual_seed(0)
    config = config_of(
        options.variant, options.size, output_stride=16, num_labels=options.num_classes
    )
    model = transformers.MobileViTForSemanticSegmentation(config)
    vary_norms(model)
    channels_last = litert_torch.to_channel_last_io(Logits(model).eval(), args=[0], outputs=[0])
    images = (torch.rand(1, options.size, options.size, 3),)
    litert_torch.convert(channels_last.eval(), images).export(options.output)
    print(f"litert-torch {litert_torch.__version__} transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
