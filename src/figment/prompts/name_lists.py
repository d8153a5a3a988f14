"""Names of things, one a line of a text file, or the classes of a built-in task."""

from __future__ import annotations

from figment.errors import FigmentError, nearest
from figment.files import as_path, read_text
from figment.prompts.words import tidy
from figment.task import builtin_names, load_task


def names_of(where: str) -> list[str]:
    """The class names of the built-in task ``where``, or else the lines of the file there, each once; empty ones are passed over.

    Raises FigmentError where there is neither, and for a file without names.
    """
    if where in builtin_names():
        return list(load_task(where).class_names)
    path = as_path(where)
    try:
        lines = read_text(path, "list of names").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        hint = nearest(where, builtin_names())
        raise FigmentError(
            f"{where} is no built-in task and no file of names that can be read ({error}).{hint} Give a text file with a name a line, or a"
            f" task: {', '.join(builtin_names())}."
        ) from error
    names = list(dict.fromkeys(name for line in lines if (name := tidy(line))))
    if not names:
        raise FigmentError(f"{path} holds no names. Write one a line.")
    return names
