"""What a checkpoint that was written holds."""

from pathlib import Path

import numpy as np
import safetensors.numpy


def assert_written(path: Path, expected: dict[str, np.ndarray]) -> None:
    """A `.safetensors` file holds these tensors to the bit, but for what counts batches."""
    written = safetensors.numpy.load_file(path)
    assert written.keys() == expected.keys()
    for name, value in expected.items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(written[name], value, err_msg=name)
