"""The forms in which the same network exists."""

TRAINING = "training"
"""Batch norms, LayerNorms with scale and shift, scaled attention: what is trained and ported."""

DEPLOYMENT = "deployment"
"""The same function with every norm's constants and the attention scale folded into the kernels."""

QUANTIZED = "quantized"
"""The deployment form with every value that is int8 in a converted file rounded to int8's grid."""

FORMS = (TRAINING, DEPLOYMENT, QUANTIZED)


def check_form(form: str) -> str:
    """Returns `form`, or raises a ValueError that lists the forms there are."""
    if form not in FORMS:
        raise ValueError(f"`form` must be one of {FORMS}. Received: form={form!r}.")
    return form
