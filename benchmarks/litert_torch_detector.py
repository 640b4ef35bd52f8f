"""Writes torchvision's SSDLite on MobileNetV3-Large as a .tflite file, converted by litert-torch.

Runs under the Python that `detection_latency` is given, which needs torch, torchvision and
litert-torch, beside nothing else of this project. Images in [-1, 1] in, channels last; encoded
boxes and the classes' probabilities of every anchor out, without decoding and suppression, like
this project's default form.
"""

import argparse

import litert_torch
import torch
import torchvision


class Answers(torch.nn.Module):
    """What the network itself computes: no resize before it and no suppression after it."""

    def __init__(self, detector: torch.nn.Module) -> None:
        super().__init__()
        self.backbone = detector.backbone
        self.head = detector.head

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        answers = self.head(list(self.backbone(images).values()))
        return answers["bbox_regression"], answers["cls_logits"].softmax(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output")
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--num-classes", type=int, required=True, help="without the background")
    options = parser.parse_args()
    torch.manual_seed(0)
    detector = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=options.num_classes + 1
    )
    for module in detector.modules():
        # Norms that a converter cannot leave out.
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0.0, 0.2)
    channels_last = litert_torch.to_channel_last_io(Answers(detector).eval(), args=[0])
    images = (torch.rand(1, options.size, options.size, 3),)
    litert_torch.convert(channels_last.eval(), images).export(options.output)
    print(f"litert-torch {litert_torch.__version__} torchvision {torchvision.__version__}")


if __name__ == "__main__":
    main()
