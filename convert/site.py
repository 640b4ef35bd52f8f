"""Collects exported models into a static site that any web host can serve."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mobilevit_keras.description import as_text, read_description
from mobilevit_keras.files import atomic_directory, check_replaceable

WEB_SOURCES = Path(__file__).parent / "web"

# What decides whether the built application is still the one of the sources.
_BUILD_INPUTS = (
    "content_security_policy.txt",
    "index.html",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "tsconfig.worker.json",
    "vite.config.ts",
    "benchmark",
    "public",
    "src",
)
_SAMPLE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_MAX_SAMPLES = 24
_TFJS_PREFIX = "tfjs"

# What sites of 0.1.0 consist of, which have no mark, beside their models and samples.
_UNMARKED = re.compile(
    r"index\.html|benchmark/index\.html|infer\.js|service_worker\.js|manifest\.webmanifest"
    r"|models\.json|icons/(icon\.svg|(icon|maskable)-\d+\.png)|assets/[\w.-]+\.(js|css)"
    r"|runtimes/litert-[\w.-]+/(litert|tfjs)/[\w.-]+\.(js|mjs|wasm)"
)

# What the page can show.
_TASKS = ("classification", "detection", "segmentation")

# What the page shows of a model before it loads it.
_SHOWN = frozenset(("task", "variant", "size", "precision", "parameters", "parity", "accuracy"))


@dataclass
class ExportedModel:
    """One model of a run folder, in one or both formats.

    Attributes:
        run_dir: The folder it was found in.
        key: What its files' names have in common: "" for `model.tflite` and `tfjs/`.
        tflite: The `.tflite` file, or None.
        tfjs: The TensorFlow.js folder, or None.
        descriptions: What each of them says about itself, by format.
    """

    run_dir: Path
    key: str
    tflite: Path | None = None
    tfjs: Path | None = None
    descriptions: dict[str, dict] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """What the model is for."""
        return str(next(iter(self.descriptions.values()))["task"])

    @property
    def name(self) -> str:
        """What a person reads: variant, precision, and the file's name where it says more."""
        description = next(iter(self.descriptions.values()))
        parts = [str(description["variant"]), str(description["precision"])]
        return " · ".join([*parts, self.key] if self.key and self.key not in parts else parts)


def find_models(run_dir: Path) -> list[ExportedModel]:
    """Finds the exported models of a folder: `*.tflite` files and `tfjs*` folders.

    `model.tflite` and `tfjs/` are two formats of one model, and so are `model_NAME.tflite` or
    `NAME.tflite` and `tfjs_NAME/`.

    Args:
        run_dir: A run folder, an export folder, a TensorFlow.js folder, or one `.tflite` file.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no exported model.
        ValueError: If a model says nothing about itself, or what cannot be understood.
    """
    single = run_dir.suffix == ".tflite" and run_dir.is_file()
    if not single and not run_dir.is_dir():
        raise FileNotFoundError(f"A folder with exported models must exist. Received: {run_dir}.")
    models: dict[str, ExportedModel] = {}

    def model(key: str) -> ExportedModel:
        return models.setdefault(key, ExportedModel(run_dir, key))

    # A name that begins with a dot is a file that an export has not finished.
    files = [path for path in sorted(run_dir.glob("*.tflite")) if not path.name.startswith(".")]
    for path in [run_dir] if single else files:
        found = model(_key(path.stem, "model"))
        found.tflite = path
        found.descriptions["tflite"] = read_description(path)
    folders = [run_dir] if (run_dir / "model.json").is_file() else sorted(run_dir.glob("tfjs*"))
    for path in folders:
        if not (path / "model.json").is_file():
            continue
        found = model(_key(path.name, _TFJS_PREFIX) if path != run_dir else path.name)
        found.tfjs = path
        found.descriptions["tfjs"] = read_description(path)
    if not models:
        raise FileNotFoundError(
            "A folder must hold exported models (*.tflite or tfjs*/model.json). "
            f"Received: {run_dir}."
        )
    return list(models.values())


def _key(name: str, prefix: str) -> str:
    if name == prefix:
        return ""
    return name[len(prefix) :].lstrip("-_.") if name.startswith(prefix) else name


def build_app(npm: str = "npm") -> Path:
    """Builds the browser application where its sources are newer, and returns its folder.

    Raises:
        OSError: If npm cannot be run, or the build fails.
    """
    built = WEB_SOURCES / "dist"
    page = built / "index.html"
    if page.is_file() and page.stat().st_mtime >= _newest_input():
        return built
    if not _packages_are_those_of_the_lock():
        _run([npm, "ci", "--no-audit", "--no-fund"])
    _run([npm, "run", "build"])
    return built


def _packages_are_those_of_the_lock() -> bool:
    """Whether every package that the lock file names is installed as it says.

    npm writes what it has installed into a second lock file. Packages for other systems, which are
    optional, are in the first only.
    """
    try:
        wanted, installed = (
            json.loads(path.read_text(encoding="utf-8"))["packages"]
            for path in (
                WEB_SOURCES / "package-lock.json",
                WEB_SOURCES / "node_modules" / ".package-lock.json",
            )
        )
    except (FileNotFoundError, ValueError, KeyError):
        return False

    def version(package: dict) -> tuple:
        return package.get("version"), package.get("integrity")

    return all(
        name == ""
        or (package.get("optional", False) and name not in installed)
        or (name in installed and version(installed[name]) == version(package))
        for name, package in wanted.items()
    )


def _newest_input() -> float:
    paths = [WEB_SOURCES / name for name in _BUILD_INPUTS]
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return max(file.stat().st_mtime for file in files if file.is_file())


def _run(command: list[str]) -> None:
    line = " ".join(command)
    try:
        done = subprocess.run(
            command, cwd=WEB_SOURCES, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"The web application is built with Node.js 20 or newer. Received: no `{command[0]}` "
            "on this computer."
        ) from error
    if done.returncode != 0:
        raise OSError(f"`{line}` in {WEB_SOURCES} must succeed. Received:\n{done.stdout[-4000:]}")


def build_site(run_dirs: list[Path], output: Path, *, npm: str = "npm") -> Path:
    """Writes a static site with the models of these folders.

    Args:
        run_dirs: Folders with exported models; the first model found is shown first.
        output: The site's folder. An earlier site there is replaced; what else lies beside it, such
            as `.git` and `CNAME`, stays.
        npm: The command that builds the application.

    Returns:
        The site's folder.

    Raises:
        ValueError: If `output` holds something that is not a site, a model does not say what it is,
            or the page can show none of the models.
        OSError: If a folder holds no model, npm fails, or a file cannot be read or written.
    """
    models = _shown_models(model for run_dir in run_dirs for model in find_models(Path(run_dir)))
    output = Path(output)
    # Before the build, which takes its time.
    check_replaceable(output, unmarked=_unmarked_files, keeps_others=True)
    app = build_app(npm)
    with atomic_directory(output, unmarked=_unmarked_files, keeps_others=True) as folder:
        shutil.copytree(app, folder, dirs_exist_ok=True)
        names = [model.name for model in models]
        entries: dict[str, dict] = {}
        for model, name in zip(models, names, strict=True):
            entry = _copy_model(model, folder)
            # Two runs of one variant are told apart by their folders; the same files count once.
            unique = name if names.count(name) == 1 else f"{name} · {model.run_dir.name}"
            entries.setdefault(entry["id"], entry | {"name": unique})
        samples = _copy_samples(run_dirs, folder)
        index = {"models": list(entries.values()), "samples": samples}
        text = json.dumps(index, indent=1, ensure_ascii=False)
        # File names may hold bytes that are no text.
        (folder / "models.json").write_text(text + "\n", encoding="utf-8", errors="replace")
    return output


def _shown_models(models: Iterable[ExportedModel]) -> list[ExportedModel]:
    """The models that the page can show; says which ones it leaves out."""
    models = list(models)
    shown = [model for model in models if model.task in _TASKS]
    others = [f"{model.run_dir} ({model.task})" for model in models if model.task not in _TASKS]
    if not shown:
        raise ValueError(
            f"The page shows models for {', '.join(_TASKS)} only. Received: {', '.join(others)}."
        )
    for other in others:
        print(f"left out, because the page cannot show it: {other}", file=sys.stderr)
    return shown


def _unmarked_files(folder: Path) -> list[str]:
    """Every file of a site of 0.1.0, which wrote no mark; none where the folder is no such site."""
    try:
        index = json.loads((folder / "models.json").read_text(encoding="utf-8"))
        ids = [model["id"] for model in index["models"]]
        urls = [url for model in index["models"] for url in model["files"].values()]
        samples = set(index["samples"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    wanted = ("index.html", "service_worker.js", "manifest.webmanifest", *urls)
    if not all((folder / name).is_file() for name in wanted):
        return []
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    names = [path.relative_to(folder).as_posix() for path in paths]
    models = tuple(f"models/{name}/" for name in ids)
    return [
        name
        for name in names
        if name.startswith(models) or name in samples or _UNMARKED.fullmatch(name)
    ]


def _plain(name: str) -> str:
    """A file's name as it can stand in an address without being changed."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)


def _copy_model(model: ExportedModel, site: Path) -> dict:
    """Copies one model; its folder's name carries a hash, so that it may be cached for ever."""
    files: dict[str, bytes] = {}
    urls: dict[str, str] = {}
    if model.tflite:
        stem = _plain(model.tflite.stem)
        urls["tflite"] = f"{stem}.tflite"
        files[urls["tflite"]] = model.tflite.read_bytes()
        files |= _beside(model.descriptions["tflite"], f"{stem}.report.json", "labels.txt")
    if model.tfjs:
        urls["tfjs"] = f"{_TFJS_PREFIX}/model.json"
        for path in sorted(model.tfjs.iterdir()):
            if path.name == "model.json" or path.suffix == ".bin":
                files[f"{_TFJS_PREFIX}/{path.name}"] = path.read_bytes()
        names = (f"{_TFJS_PREFIX}/report.json", f"{_TFJS_PREFIX}/labels.txt")
        files |= _beside(model.descriptions["tfjs"], *names)
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(name.encode() + content)
    description = next(iter(model.descriptions.values()))
    words = [str(description["variant"]), str(description["precision"]), digest.hexdigest()[:10]]
    identifier = _plain("-".join(words))
    folder = site / "models" / identifier
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return {
        "id": identifier,
        "files": {name: f"models/{identifier}/{url}" for name, url in urls.items()},
        "reports": {name: _shown(model, name) for name in model.descriptions},
    }


def _shown(model: ExportedModel, file_format: str) -> dict:
    description = model.descriptions[file_format]
    is_file = file_format == "tflite"
    paths = [model.tflite] if is_file else [*model.tfjs.glob("*.bin"), model.tfjs / "model.json"]
    return {
        **{name: value for name, value in description.items() if name in _SHOWN},
        "num_classes": len(description["class_names"]),
        "bytes": sum(path.stat().st_size for path in paths),
    }


def _beside(description: dict, report: str, labels: str) -> dict[str, bytes]:
    """What the page reads beside an export of 0.1.0, whose file carries no description."""
    if description["schema"] > 0:
        return {}
    names = description["class_names"]
    named = {name: value for name, value in description.items() if name != "class_names"}
    text = as_text(named | {"schema": 1, "num_classes": len(names)})
    return {report: text.encode(), labels: ("\n".join(names) + "\n").encode()}


def _copy_samples(run_dirs: list[Path], site: Path) -> list[str]:
    urls = []
    for run_dir in run_dirs:
        for path in sorted((Path(run_dir) / "samples").glob("*")):
            if path.suffix.lower() not in _SAMPLE_SUFFIXES or path.name.startswith("."):
                continue
            if len(urls) == _MAX_SAMPLES:
                break
            name = f"{len(urls):02d}{path.suffix.lower()}"
            (site / "samples").mkdir(exist_ok=True)
            shutil.copyfile(path, site / "samples" / name)
            urls.append(f"samples/{name}")
    return urls
