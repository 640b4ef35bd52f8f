"""A configuration's fields as flags; what is given by them comes over a recipe's values."""

import argparse
import dataclasses
import types
import typing
from collections.abc import Collection

from mobilevit_keras.source_kinds import LABEL, kind_of
from train.config import CONFIGS, Config
from train.recipe_files import load_recipe, recipe_names


def add_arguments(
    parser: argparse.ArgumentParser,
    configs: Collection[type[Config]],
    names: Collection[str] | None = None,
) -> None:
    """Adds flags for the fields, `--like-this`; flags that are not given leave no attribute.

    Args:
        parser: The parser.
        configs: The configurations; of a field that several have, the first one's help is shown.
        names: The fields; all by default.
    """
    groups: dict[str, argparse._ArgumentGroup] = {}
    added = set()
    for config in configs:
        defaults, hints = config(), typing.get_type_hints(config)
        for field in dataclasses.fields(config):
            is_wanted = names is None or field.name in names
            if not is_wanted or not field.metadata or field.name in added:
                continue
            added.add(field.name)
            name = field.metadata["group"]
            group = groups.setdefault(name, parser.add_argument_group(name))
            default = getattr(defaults, field.name)
            shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
            text = field.metadata["help"]
            text += "" if default in (None, "") else f" (default: {shown})"
            group.add_argument(
                "--" + field.name.replace("_", "-"),
                help=text.replace("%", "%%"),
                default=argparse.SUPPRESS,
                **_argument(hints[field.name]),
            )


def add_recipe_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--recipe`."""
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help=f"where the values come from: {', '.join(recipe_names())}, or a YAML file",
    )


def add_task_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--task`, for commands that are of no task by their names."""
    parser.add_argument(
        "--task",
        default=argparse.SUPPRESS,
        choices=tuple(CONFIGS),
        help="what is trained (default: what the recipe says, else what the data are made for)",
    )


def _argument(hint) -> dict:
    """What argparse needs to know of a field's type."""
    if isinstance(hint, types.UnionType):
        hint = next(member for member in typing.get_args(hint) if member is not type(None))
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    members = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        count = "+" if members[1:] == (Ellipsis,) else len(members)
        return {"type": members[0], "nargs": count, "metavar": "N"}
    return {"type": hint, "metavar": {str: "NAME"}.get(hint, "N")}


def from_options(values: dict, options: argparse.Namespace) -> Config:
    """The configuration: the recipe's values with the flags that were given over them.

    Args:
        values: What `load_recipe` returns, or {"task": its name}.
        options: The command line's.
    """
    config = CONFIGS[values["task"]]
    names = {field.name for field in dataclasses.fields(config)}
    given = {name: value for name, value in vars(options).items() if name in names}
    return config(**{**values, **given})


def of_any_task(options: argparse.Namespace) -> Config:
    """The configuration of the task that flags or recipe name, or that the data are made for."""
    task = getattr(options, "task", None)
    if options.recipe:
        return from_options(load_recipe(options.recipe, task=task), options)
    return from_options({"task": task or _task_of_data(getattr(options, "data", ""))}, options)


def _task_of_data(data: str) -> str:
    """The task whose targets a source has where nobody asks for others."""
    kind = kind_of(data)
    fields = LABEL if kind is None else kind.fields[0]
    tasks = [name for name, config in CONFIGS.items() if config.FIELDS == fields]
    if not tasks:
        raise ValueError(
            f"`--task` must say what is trained, {' or '.join(CONFIGS)}. Received: data={data!r}, "
            f"which has {' and '.join(fields)}."
        )
    return tasks[0]
