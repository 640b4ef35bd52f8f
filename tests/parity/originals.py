"""The original implementations, run by a Python of their own that has PyTorch and not TensorFlow.

  python originals.py make FOLDER     random models: FOLDER/LIBRARY/VARIANT.{pt,safetensors,npz}
  python originals.py answer FOLDER   what FOLDER/LIBRARY/VARIANT.written.safetensors answers

The images go through every model at the sizes of `SHAPES`; answers are arrays in `.npz` files.
"""

import importlib.machinery
import sys
import types
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

# The last: stage 5 has 5 x 7 cells, which the patch of 2 does not divide.
SHAPES = ((256, 256), (192, 320), (160, 224))
LIBRARIES = ("huggingface", "timm")
NUM_CLASSES = 1000
# Expansion, transformer channels; channels of the stem, the five stages and the last expansion.
WIDTHS = {
    "mobilevit_xxs": (2.0, [64, 80, 96], [16, 16, 24, 48, 64, 80, 320]),
    "mobilevit_xs": (4.0, [96, 120, 144], [16, 32, 48, 64, 80, 96, 384]),
    "mobilevit_s": (4.0, [144, 192, 240], [16, 32, 64, 96, 128, 160, 640]),
}
# MobileViTv2 by its multiplier.
MULTIPLIERS = {"mobilevitv2_075": 0.75, "mobilevitv2_150": 1.5}
VARIANTS = (*WIDTHS, *MULTIPLIERS)


class _AnyConstant(type):
    """Type of the stand-ins' classes; any constant can be asked for."""

    def __getattr__(cls, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return f"{cls.__name__}.{name}"


class _StandIn(types.ModuleType):
    """A module any name can be imported from; timm imports torchvision and uses none of it here."""

    __path__ = ()

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return _AnyConstant(name, (), {})


class _StandInFinder:
    """Finds a stand-in for torchvision and every module below it."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, _StandInFinder, is_package=True)
        return None

    @staticmethod
    def create_module(spec):
        return _StandIn(spec.name)

    @staticmethod
    def exec_module(module) -> None:
        """There is nothing to run."""


def build(library: str, variant: str) -> torch.nn.Module:
    """A model with fresh random weights."""
    if library == "huggingface" and variant in MULTIPLIERS:
        from transformers import MobileViTV2Config, MobileViTV2ForImageClassification

        config = MobileViTV2Config(width_multiplier=MULTIPLIERS[variant], num_labels=NUM_CLASSES)
        return MobileViTV2ForImageClassification(config).eval()
    if library == "huggingface":
        from transformers import MobileViTConfig, MobileViTForImageClassification

        expand_ratio, hidden_sizes, neck = WIDTHS[variant]
        config = MobileViTConfig(
            expand_ratio=expand_ratio,
            hidden_sizes=hidden_sizes,
            neck_hidden_sizes=neck,
            num_labels=NUM_CLASSES,
        )
        return MobileViTForImageClassification(config).eval()
    # transformers, which would ask the stand-in for more than there is, has been imported by now.
    sys.meta_path.insert(0, _StandInFinder)
    import timm

    return timm.create_model(variant, pretrained=False, num_classes=NUM_CLASSES).eval()


def redraw(model: torch.nn.Module) -> None:
    """Draws every tensor anew, so that each counts: fresh norms are ones, fresh biases zeros."""
    for name, tensor in model.state_dict().items():
        if tensor.dim() > 1:
            tensor.normal_(0, (1.6 / tensor[0].numel()) ** 0.5)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(0, 0.2)
        elif tensor.dim() == 1:
            tensor.uniform_(0.7, 1.4)


@torch.no_grad()
def answers(library: str, variant: str, model: torch.nn.Module, seed: int) -> dict:
    """Images, RGB channels last, and what a model says about them."""
    is_first = variant in WIDTHS
    generator = torch.Generator().manual_seed(seed)
    arrays = {}
    for height, width in SHAPES:
        images = torch.rand((2, 3, height, width), generator=generator)
        size = f"{height}x{width}"
        arrays[f"images_{size}"] = images.permute(0, 2, 3, 1).numpy()
        if library == "huggingface":
            # Only of the first MobileViT the weights are for BGR.
            output = model(images.flip(1) if is_first else images, output_hidden_states=True)
            arrays[f"logits_{size}"] = output.logits.numpy()
            for number, stage in enumerate(output.hidden_states, start=1):
                arrays[f"stage{number}_{size}"] = stage.permute(0, 2, 3, 1).numpy()
        else:
            arrays[f"logits_{size}"] = model(images).numpy()
    return arrays


def make(folder: Path) -> None:
    """Writes random checkpoints and their answers."""
    print("seed", torch.seed())
    for library in LIBRARIES:
        (folder / library).mkdir(parents=True)
        for seed, variant in enumerate(VARIANTS):
            model = build(library, variant)
            redraw(model)
            place = folder / library / variant
            torch.save(model.state_dict(), place.with_suffix(".pt"))
            safetensors.torch.save_file(
                {name: value.contiguous() for name, value in model.state_dict().items()},
                place.with_suffix(".safetensors"),
                {"format": "pt"},
            )
            np.savez(place.with_suffix(".npz"), **answers(library, variant, model, seed))


def answer(folder: Path) -> None:
    """Loads what was written for the libraries, strictly, and writes what they answer."""
    for library in LIBRARIES:
        for seed, variant in enumerate(VARIANTS):
            model = build(library, variant)
            place = folder / library / variant
            state = safetensors.torch.load_file(place.with_suffix(".written.safetensors"))
            model.load_state_dict(state, strict=True)
            np.savez(place.with_suffix(".written.npz"), **answers(library, variant, model, seed))


if __name__ == "__main__":
    {"make": make, "answer": answer}[sys.argv[1]](Path(sys.argv[2]))
