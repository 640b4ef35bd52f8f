"""Recipes: YAML files of a configuration's values, the project's by name or a person's by path."""

import dataclasses
import difflib
import typing
from pathlib import Path

import yaml

from train.config import CONFIGS, ClassificationConfig, Config

RECIPES = Path(__file__).parent / "recipes"


def recipe_names(task: str | None = None) -> list[str]:
    """Names of the recipes that come with the project; of a task's alone where one is given."""
    paths = (path.relative_to(RECIPES) for path in RECIPES.rglob("*.yaml"))
    names = sorted(path.as_posix().removesuffix(".yaml") for path in paths)
    return names if task is None else [n for n in names if load_recipe(n)["task"] == task]


def load_recipe(name: str, smoke: bool = False, task: str | None = None) -> dict:
    """Reads a recipe: one of the project's by name, or a person's own by its path.

    A recipe's `base` names another one that its values come over.

    Args:
        name: "digits", or "path/to/recipe.yaml".
        smoke: Whether the recipe's `smoke` values, which make it run in seconds, come over it.
        task: What is to be trained; by default what the recipe says. One that does not say is for
            any task that knows its keys.

    Returns:
        Values by field of the task's configuration.

    Raises:
        ValueError: If there is no such recipe, it is for another task, or it holds a key that
            nothing reads.
    """
    files = list(_read_recipes(name))
    values = {key: value for _, plain, _ in files for key, value in plain.items()}
    own = values.get("task")
    if task is not None and own not in (None, task):
        raise ValueError(
            f"A recipe must be for what is trained, {task}. Received: {name!r}, which is for {own}."
        )
    values["task"] = task = task or own or ClassificationConfig.task
    if task not in CONFIGS:
        raise ValueError(
            f"A recipe's `task` must be one of {', '.join(CONFIGS)}. "
            f"Received: {task!r} in {files[-1][0]}."
        )
    for path, plain, of_smoke in files:
        check_keys({**of_smoke, **plain}, path, CONFIGS[task])
    if smoke:
        values |= {key: value for _, _, of_smoke in files for key, value in of_smoke.items()}
    return values


def _read_recipes(
    name: str, above: tuple[Path, ...] = ()
) -> typing.Iterator[tuple[Path, dict, dict]]:
    """Yields a recipe's file, values and smoke values, after those of the recipe it is based on.

    Args:
        name: The recipe.
        above: The recipes that it is the base of.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else RECIPES / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(
            f"`--recipe` must be one of {recipe_names()} or a YAML file. Received: {name!r}."
        )
    if path in above:
        raise ValueError(f"A recipe must not be its own `base`. Received: {path}.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"A recipe must be YAML. Received: {path}: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"A recipe must map names to values. Received: {path}.")
    base = values.pop("base", None)
    smoke_values = values.pop("smoke", None) or {}
    if base is not None:
        yield from _read_recipes(str(base), (*above, path))
    yield path, values, smoke_values


def check_keys(values: dict, path: Path, config: type[Config]) -> None:
    """Raises a ValueError that names the first key that is no field of the configuration."""
    known = [field.name for field in dataclasses.fields(config)]
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"A recipe's keys must be known. Received: {key!r} in {path}{hint}")
