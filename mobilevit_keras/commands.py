"""How the commands begin and end: subcommands, exit statuses and one clear line for a mistake."""

import argparse
import contextlib
import importlib
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence

# A ValueError raised here was written for the person who runs a command.
_OURS = ("mobilevit_keras", "train", "convert")


def parse_size(text: str) -> tuple[int, int]:
    """Reads "256" or "256x192" (height x width), for argparse."""
    height, _, width = text.lower().partition("x")
    try:
        return int(height), int(width or height)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"a side or HEIGHTxWIDTH is needed, not {text!r}"
        ) from None


def size_text(size: tuple[int, int]) -> str:
    """A size as `parse_size` reads it."""
    height, width = size
    return str(height) if height == width else f"{height}x{width}"


def run_subcommand(package: str, names: Sequence[str], arguments: Sequence[str]) -> int:
    """Parses a command line and runs the subcommand it names.

    Args:
        package: Name of the command's package, such as "train".
        names: The subcommands; each is a module `package.NAME_command` with a docstring that
            describes it, `HELP`, `add_arguments(parser)` and `main(options) -> int`. The parser
            that `add_arguments` gets takes the rest of the command line. One that does without
            TensorFlow, whose import takes seconds, has `USES_TENSORFLOW = False`; one that
            runs within `quiet_libraries` has `KEEPS_LIBRARIES_QUIET = True` (a training has not: in
            hours native code may well say something that matters).
        arguments: The command line after the program's name.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {package}", description=sys.modules[package].__doc__
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in names:
        module = importlib.import_module(f"{package}.{name}_command")
        subparser = subparsers.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(subparser)
        subparser.set_defaults(
            main=module.main,
            uses_tensorflow=getattr(module, "USES_TENSORFLOW", True),
            keeps_libraries_quiet=getattr(module, "KEEPS_LIBRARIES_QUIET", False),
        )
    options = parser.parse_args(arguments)
    if options.uses_tensorflow:
        _import_tensorflow_quietly()
        _check_backend()
    with quiet_libraries() if options.keeps_libraries_quiet else contextlib.nullcontext():
        return options.main(options)


def _import_tensorflow_quietly() -> None:
    """Imports TensorFlow without its notices that nobody can act on.

    Among them: no GPU found, CPU features, deprecated functions that a library calls. What goes
    wrong is raised, not logged.
    """
    import absl.logging

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    absl.logging.set_verbosity(absl.logging.ERROR)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with quiet_libraries():
        importlib.import_module("tensorflow")


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keeps from the terminal what native libraries write past Python and its settings.

    Notices of devices, delegates and sessions, which nobody can act on. What Python writes to
    `sys.stderr` appears as ever. Where the block ends in an error that is no mistake of a person's,
    what was kept back is shown: it may say why.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    python_stderr = sys.stderr
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        if _is_descriptor_2(python_stderr):
            sys.stderr = os.fdopen(os.dup(terminal), "w", buffering=1, errors="backslashreplace")
        try:
            yield
        except (OSError, ValueError, ImportError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            kept.seek(0)
            os.write(terminal, kept.read())
            raise
        finally:
            if sys.stderr is not python_stderr:
                sys.stderr.close()
                sys.stderr = python_stderr
            os.dup2(terminal, 2)
            os.close(terminal)


def _is_descriptor_2(stream) -> bool:
    try:
        return stream.fileno() == 2
    except (AttributeError, OSError, ValueError):
        return False


def _check_backend() -> None:
    """Raises a ValueError where Keras is set to another backend than the commands are made for."""
    import keras

    backend = keras.config.backend()
    if backend != "tensorflow":
        raise ValueError(
            "The commands run on Keras's TensorFlow backend: KERAS_BACKEND=tensorflow. "
            f"Received: {backend!r}."
        )


def run(main: Callable[[Sequence[str]], int], arguments: Sequence[str] | None = None) -> int:
    """Runs a command's `main` and turns what a person can mend into one line and exit status 2.

    A `ValueError` that code of this project raises (a bad argument or file content) and `OSError`
    (a missing, unreadable or unwritable file, a full disk) are the person's to mend. Anything else
    is a fault of the program and keeps its traceback, a ValueError out of a library too: nobody can
    tell what to do about it. `MOBILEVIT_KERAS_TRACEBACK=1` shows the traceback of every error.

    Args:
        main: Takes the arguments, returns the exit status.
        arguments: The command's arguments; those of the process by default.

    Returns:
        The exit status: what `main` returned, 2 after a mistake, 130 after an interruption.
    """
    try:
        return main(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        if os.environ.get("MOBILEVIT_KERAS_TRACEBACK") == "1" or not _is_a_persons(error):
            raise
        print(f"error: {_told(error)}", file=sys.stderr)
        return 2


def _told(error: ValueError | OSError) -> str:
    """An error's text; of a file where a folder is needed the system's own says only that it is."""
    if isinstance(error, FileExistsError | NotADirectoryError) and error.filename is not None:
        return f"A folder is needed where a file is. Received: {os.fsdecode(error.filename)}."
    if isinstance(error, IsADirectoryError) and error.filename is not None:
        return f"A file is needed where a folder is. Received: {os.fsdecode(error.filename)}."
    return str(error)


def _is_a_persons(error: ValueError | OSError) -> bool:
    """Whether an error says what a person can mend."""
    if isinstance(error, OSError):
        return True
    frames = list(traceback.walk_tb(error.__traceback__))
    package = frames[-1][0].f_globals.get("__name__", "").partition(".")[0] if frames else ""
    return package in _OURS
