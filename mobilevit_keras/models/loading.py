import zipfile
from pathlib import Path

import keras

from mobilevit_keras.models.vision_task import VisionTask

# Weights are random numbers, which do not compress: Keras's files unpack to about their own size.
_MOST_UNPACKED = 64 << 20
_MOST_TIMES = 20


def load_model(path: str | Path) -> VisionTask:
    """Loads a model that `save` has written, of whatever task.

    Args:
        path: A `.keras` file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no Keras model, is damaged, or holds no model of this package.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"A model file is needed. Received: {path}, which is none.")
    _check_archive(path)
    try:
        model = keras.saving.load_model(path, compile=False)
    # Keras and its readers raise what comes to hand on a file that is cut short or something else.
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ValueError(
            f"A model file must be a whole .keras file. Received: {path}: {reason}"
        ) from error
    if not isinstance(model, VisionTask):
        raise ValueError(
            "A model file must hold a model of mobilevit_keras. "
            f"Received: {path}, which holds a {type(model).__name__}."
        )
    return model


def _check_archive(path: Path) -> None:
    """Raises ValueError where a file is no archive, or a small one would unpack to gigabytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except NotImplementedError:
        # Keras says what is wrong with it.
        return
    except zipfile.BadZipFile as error:
        # Keras says that it is not there.
        raise ValueError(
            f"A model file must be a whole .keras file. Received: {path}: {error}"
        ) from error
    if unpacked > max(_MOST_UNPACKED, _MOST_TIMES * path.stat().st_size):
        raise ValueError(
            f"A model file must unpack to at most {_MOST_TIMES} times its size. "
            f"Received: {path}, which says that it unpacks to {unpacked / 1e6:,.0f} MB."
        )
