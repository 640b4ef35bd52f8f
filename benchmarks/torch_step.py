"""Training steps of Hugging Face's MobileViT in PyTorch, one for each line on standard input.

Runs under the Python that `step_vs_pytorch` is given, beside nothing else of this project. Prints
"ready" and versions, then the seconds of each step.
"""

import argparse
import sys
import time

import torch
import transformers
from torch_models import VARIANTS, config_of


def classification(config, options):
    """Returns a classifier, and what computes its loss."""
    config.num_labels = 1000
    model = transformers.MobileViTForImageClassification(config).train()
    loss_function = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    labels = torch.randint(0, config.num_labels, (options.batch_size,))
    return model, lambda images: loss_function(model(pixel_values=images).logits, labels)


def segmentation(config, options):
    """Returns a segmenter, and what computes its loss, which enlarges the logits to the masks."""
    config.num_labels = 21
    config.output_stride = 16
    model = transformers.MobileViTForSemanticSegmentation(config).train()
    cells = (options.batch_size, options.size // 16, options.size // 16)
    masks = torch.randint(0, config.num_labels, cells)
    masks = masks.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2)
    return model, lambda images: model(pixel_values=images, labels=masks).loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True, choices=("classification", "segmentation"))
    parser.add_argument("--variant", required=True, choices=VARIANTS)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = config_of(options.variant, options.size)
    model, loss_of = globals()[options.task](config, options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=0.01)
    images = torch.rand(options.batch_size, 3, options.size, options.size)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"ready torch {torch.__version__} transformers {transformers.__version__} {parameters}")
    sys.stdout.flush()
    for _ in sys.stdin:
        began_at = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(images)
        loss.backward()
        optimizer.step()
        # Reading the loss waits for the step.
        loss.item()
        print(time.perf_counter() - began_at, flush=True)


if __name__ == "__main__":
    main()
