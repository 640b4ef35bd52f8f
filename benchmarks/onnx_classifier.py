"""Writes Hugging Face's MobileViT classifier as ONNX files, in float32 and in bytes.

Runs under the Python that `browser` is given, which needs torch, transformers, onnx, onnxscript and
onnxruntime, beside nothing else of this project. Images in [0, 1] in, channels first, logits out.
The bytes are those of transformers.js's q8: weights ahead of time, activations as they come.
"""

import argparse
from pathlib import Path

import onnxruntime.quantization
import torch
import transformers
from torch_models import VARIANTS, Logits, config_of, vary_norms


def natural(model: torch.nn.Module, size: int) -> torch.nn.Module:
    """Gives norms varied scales, and the statistics of images: a fresh network's signal fades."""
    vary_norms(model)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    coarse = torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        model.train()(torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic"))
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", required=True, choices=VARIANTS)
    parser.add_argument("--size", type=int, required=True)
    options = parser.parse_args()
    torch.manual_seed(0)
    config = config_of(options.variant, options.size, num_labels=1000)
    model = natural(Logits(transformers.MobileViTForImageClassification(config)), options.size)
    images = torch.rand(1, 3, options.size, options.size)
    full, q8 = (options.folder / f"{name}.onnx" for name in ("float32", "q8"))
    torch.onnx.export(
        model, (images,), str(full), input_names=["images"], dynamo=True, external_data=False
    )
    onnxruntime.quantization.quantize_dynamic(
        full, q8, weight_type=onnxruntime.quantization.QuantType.QUInt8
    )
    print(f"onnxruntime {onnxruntime.__version__}, transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
