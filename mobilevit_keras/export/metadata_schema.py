"""The classes that flatc makes of TFLite's metadata_schema.fbs, as mediapipe ships them."""

import functools
import importlib.util
from pathlib import Path
from types import ModuleType

_PATH = Path("tasks", "metadata", "metadata_schema_py_generated.py")


@functools.cache
def metadata_schema() -> ModuleType:
    """Returns the module of the classes.

    Its file is opened by itself: importing the package around it takes seconds and native parts.

    Raises:
        ImportError: If mediapipe is not installed.
    """
    package = importlib.util.find_spec("mediapipe")
    places = () if package is None else package.submodule_search_locations
    files = [Path(place) / _PATH for place in places if (Path(place) / _PATH).is_file()]
    if not files:
        raise ImportError(
            "Writing .tflite files needs mediapipe's metadata schema: "
            "pip install 'mobilevit_keras[export]'."
        )
    spec = importlib.util.spec_from_file_location(_PATH.stem, files[0])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
