"""Which classes are taken for which."""

import numpy as np


def confusion_matrix(classes: np.ndarray, answers: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts how often each class got each answer.

    Args:
        classes: What is true, integers from 0 up to K; of any shape.
        answers: What was answered, likewise.
        num_classes: Number of classes K.

    Returns:
        int64 `(K, K)`: true classes in rows, answers in columns.

    Example:
    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    array([[1, 1],
           [0, 1]])
    """
    pairs = np.ravel(classes).astype(np.int64) * num_classes + np.ravel(answers)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def intersection_over_union(matrix: np.ndarray) -> np.ndarray:
    """The intersection over union of every class of a `confusion_matrix`.

    Returns:
        float64 `(K,)`; NaN for classes that neither occur nor were answered.

    Example:
    >>> intersection_over_union(np.array([[2, 2, 0], [0, 4, 0], [0, 0, 0]]))
    array([0.5       , 0.66666667,        nan])
    """
    both = np.diagonal(matrix)
    either = matrix.sum(axis=0) + matrix.sum(axis=1) - both
    return np.divide(both, either, out=np.full(len(matrix), np.nan), where=either > 0)
