"""Why an export ended without a file."""


class CheckError(RuntimeError):
    """The file that was written does not do what its Keras model does, or not as it should."""
