"""The classes that flatc makes of the schemas of TFLite's metadata, as mediapipe ships them."""

import functools
import importlib.util
from pathlib import Path
from types import ModuleType

_FOLDER = Path("tasks", "metadata")


@functools.cache
def metadata_schema(name: str = "metadata_schema") -> ModuleType:
    """Returns the module of a schema's classes.

    Its file is opened by itself: importing the package around it takes seconds and native parts.

    Args:
        name: The schema's, such as "image_segmenter_metadata_schema".

    Raises:
        ImportError: If mediapipe is not installed.
    """
    path = _FOLDER / f"{name}_py_generated.py"
    package = importlib.util.find_spec("mediapipe")
    places = () if package is None else package.submodule_search_locations
    files = [Path(place) / path for place in places if (Path(place) / path).is_file()]
    if not files:
        raise ImportError(
            "Writing .tflite files needs mediapipe's metadata schema: "
            "pip install 'mobilevit_keras[export]'."
        )
    spec = importlib.util.spec_from_file_location(path.stem, files[0])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
