"""Training steps of Hugging Face's MobileViT in PyTorch, one for each line on standard input.

Runs under the Python that `step_vs_pytorch` is given, beside nothing else of this project. Prints
"ready" and versions, then the seconds of each step.
"""

import argparse
import sys
import time

import torch
import transformers

# As in apple/mobilevit-*: transformer widths, widths from the stem to the expansion, MV2 expansion.
VARIANTS = {
    "mobilevit_xxs": ([64, 80, 96], [16, 16, 24, 48, 64, 80, 320], 2.0, 0.05),
    "mobilevit_xs": ([96, 120, 144], [16, 32, 48, 64, 80, 96, 384], 4.0, 0.1),
    "mobilevit_s": ([144, 192, 240], [16, 32, 64, 96, 128, 160, 640], 4.0, 0.1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", required=True, choices=VARIANTS)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    hidden_sizes, neck_hidden_sizes, expand_ratio, dropout = VARIANTS[options.variant]
    config = transformers.MobileViTConfig(
        image_size=options.size,
        hidden_sizes=hidden_sizes,
        neck_hidden_sizes=neck_hidden_sizes,
        expand_ratio=expand_ratio,
        hidden_dropout_prob=dropout,
        num_labels=1000,
    )
    model = transformers.MobileViTForImageClassification(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=0.01)
    loss_function = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    images = torch.rand(options.batch_size, 3, options.size, options.size)
    labels = torch.randint(0, 1000, (options.batch_size,))
    parameters = sum(p.numel() for p in model.parameters())
    print(f"ready torch {torch.__version__} transformers {transformers.__version__} {parameters}")
    sys.stdout.flush()
    for _ in sys.stdin:
        began_at = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = loss_function(model(pixel_values=images).logits, labels)
        loss.backward()
        optimizer.step()
        # Reading the loss waits for the step.
        loss.item()
        print(time.perf_counter() - began_at, flush=True)


if __name__ == "__main__":
    main()
