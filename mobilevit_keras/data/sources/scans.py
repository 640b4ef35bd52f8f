"""How scikit-learn's 1,797 scanned digits are shared out."""

import numpy as np

NUM_SCANS, NUM_TRAIN = 1797, 1400


def scans_of_splits() -> dict[str, np.ndarray]:
    """The places in `load_digits` of each split's scans."""
    # The stored order goes writer by writer; a fixed shuffle mixes them over both splits.
    order = np.argsort(np.random.PCG64(0).random_raw(NUM_SCANS), kind="stable")
    return {"train": order[:NUM_TRAIN], "validation": order[NUM_TRAIN:]}
