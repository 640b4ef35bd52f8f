"""What an exported model says about itself, inside its own file.

A `.tflite` file carries it as a stored entry of the zip archive that follows the flatbuffer, where
MediaPipe looks for labels.txt; a TF.js model in `userDefinedMetadata` of its model.json. Clients
read it there: what lies beside a file may be another file's. Of exports of version 0.1.0, which
carry none, the report and labels beside them are read.

Needs the standard library only.
"""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mobilevit_keras.files import atomic_path

SCHEMA = 1
DESCRIPTION_FILE = "mobilevit_keras.json"
LABELS_FILE = "labels.txt"
TFJS_KEY = "mobilevit_keras"
_TFJS_FILE = "model.json"
_MAXIMUM_BYTES = 1 << 26

_REQUIRED = ("task", "variant", "precision", "size", "preprocessing", "input", "outputs")


def report_path(path: str | Path) -> Path:
    """Where the copy for people lies: NAME.report.json, or report.json in a TF.js folder."""
    path = Path(path)
    return path / "report.json" if path.is_dir() else path.with_suffix(".report.json")


def labels_path(path: str | Path) -> Path:
    """Where the class names for people lie: NAME.labels.txt, or labels.txt in a TF.js folder."""
    path = Path(path)
    return path / LABELS_FILE if path.is_dir() else path.with_suffix(f".{LABELS_FILE}")


def read_description(path: str | Path) -> dict[str, Any]:
    """Reads what an exported model says about itself.

    Args:
        path: A `.tflite` file or a TF.js folder.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If it says nothing about itself, or what cannot be understood.
    """
    path = Path(path)
    if not (path / _TFJS_FILE if path.is_dir() else path).is_file():
        raise FileNotFoundError(f"An exported model is needed. Received: {path}, which is none.")
    text = _in_tfjs(path) if path.is_dir() else read_archive(path).get(DESCRIPTION_FILE)
    if text is None:
        return _beside(path)
    return _checked(text, path)


def write_description(path: str | Path, description: Mapping[str, Any]) -> None:
    """Writes what a model says about itself into its file, and anew the report beside it.

    Args:
        path: A `.tflite` file or a TF.js folder. One of version 0.1.0 stays without; its report
            alone is written.
        description: As `read_description` returns it.

    Raises:
        OSError: If a file cannot be read or written.
    """
    path = Path(path)
    if path.is_dir():
        described = _in_tfjs(path) is not None
        if described:
            model = _json(path / _TFJS_FILE)
            model["userDefinedMetadata"][TFJS_KEY] = dict(description)
            with atomic_path(path / _TFJS_FILE) as temporary:
                temporary.write_text(json.dumps(model, ensure_ascii=False), "utf-8")
    else:
        entries = read_archive(path)
        described = DESCRIPTION_FILE in entries
        if described:
            entries[DESCRIPTION_FILE] = compact(description)
            with atomic_path(path) as temporary:
                temporary.write_bytes(path.read_bytes())
                write_archive(temporary, entries)
    report = report_path(path)
    if report.is_file():
        described = _json(report) | description if described else description
        with atomic_path(report) as temporary:
            temporary.write_text(as_text(described), "utf-8")


def compact(value: Mapping[str, Any]) -> bytes:
    """JSON for machines."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def as_text(value: Mapping[str, Any]) -> str:
    """JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def read_archive(path: Path) -> dict[str, bytes]:
    """The entries of the zip archive that follows a `.tflite` file's flatbuffer; {} without one."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MAXIMUM_BYTES:
                raise ValueError(f"What a model says about itself must be short. Received: {path}.")
            return {entry.filename: archive.read(entry) for entry in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError):
        return {}


def write_archive(path: Path, entries: Mapping[str, bytes]) -> None:
    """Puts a zip archive in the place of the one that follows a flatbuffer, or after it."""
    end = path.stat().st_size
    if read_archive(path):
        with zipfile.ZipFile(path) as archive:
            end = min(entry.header_offset for entry in archive.infolist())
    with open(path, "r+b") as file:
        file.truncate(end)
        file.seek(end)
        with zipfile.ZipFile(file, "a") as archive:
            for name, content in entries.items():
                # A fixed date: equal models are equal files. Stored: MediaPipe maps it as it is.
                archive.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), content)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"A JSON file is needed. Received: {path} ({error}).") from error
    if not isinstance(value, dict):
        raise ValueError(f"A JSON object is needed. Received: {path}.")
    return value


def _in_tfjs(path: Path) -> bytes | None:
    metadata = _json(path / _TFJS_FILE).get("userDefinedMetadata")
    if not isinstance(metadata, dict) or TFJS_KEY not in metadata:
        return None
    return compact(metadata[TFJS_KEY])


def _checked(text: bytes, path: Path) -> dict[str, Any]:
    rule = f"{path}: what an exported model says about itself"
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{rule} must be JSON. Received: {error}.") from error
    if not isinstance(value, dict) or not isinstance(value.get("schema"), int):
        raise ValueError(f"{rule} must be an object with its schema. Received: {text[:80]!r}.")
    if value["schema"] > SCHEMA:
        raise ValueError(
            f"{rule} must have schema {SCHEMA} or older; a newer version of this package wrote "
            f"it. Received: {value['schema']}."
        )
    missing = [key for key in _REQUIRED if key not in value]
    if missing:
        raise ValueError(f"{rule} must have {', '.join(missing)}. Received: none.")
    return value


def _beside(path: Path) -> dict[str, Any]:
    """A description of what lies beside an export of version 0.1.0."""
    report = report_path(path)
    if not report.is_file():
        raise ValueError(
            f"An exported model must say what it is. Received: {path}, which carries no "
            f"description, and no {report.name} beside it."
        )
    found = _json(report)
    wanted = {"variant", "num_classes", "size", "precision", "preprocessing"}
    if missing := sorted(wanted - found.keys()):
        raise ValueError(f"A report must have {', '.join(missing)}. Received: {report}.")
    count = found["num_classes"]
    labels = (path if path.is_dir() else path.parent) / LABELS_FILE
    names = labels.read_text("utf-8").splitlines() if labels.is_file() else []
    if len(names) != count:
        # Another model's names may lie in the same folder.
        names = [str(index) for index in range(count)]
    side = min(found["size"])
    stored = found["preprocessing"]
    # The larger side's, where they are unequal.
    short_side = max(side, round(stored["short_side"] * side / stored["crop_size"]))
    return found | {
        "schema": 0,
        "task": "classification",
        "preprocessing": stored | {"short_side": short_side, "crop_size": side},
        "input": found.get("input", {"name": "image", "dtype": "float32", "range": [0, 255]}),
        "outputs": [{"name": "probabilities", "dtype": "float32", "shape": [1, count]}],
        "class_names": names,
    }
