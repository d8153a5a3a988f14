"""What several commands take: options, arguments, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from figment.errors import FigmentError, nearest

if TYPE_CHECKING:
    from figment.engines import Engine


def path_of(text: str) -> Path:
    from figment.files import as_path

    return as_path(text)


Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        parser=path_of,
        metavar="DIR",
        help="folder of the run, local or such as s3://bucket/run; default: runs/<name of the recipe file>",
    ),
]
RecipePath = Annotated[
    Path, typer.Argument(parser=path_of, metavar="RECIPE", help="a YAML recipe, or the folder of an earlier run")
]
Folder = Annotated[Path, typer.Argument(parser=path_of, metavar="DIR", help="folder of a run")]
EngineName = Annotated[str, typer.Option("--engine", help="where images are made: local or ray")]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        max=1_024,
        help="processes that make images, one a GPU; default: one, or all of a Ray cluster",
    ),
]
Address = Annotated[
    str | None, typer.Option("--address", help="of a Ray cluster; default: the one this machine is in, else a new one")
]
Gpus = Annotated[
    float | None,
    typer.Option(
        "--gpus", min=0, max=16, help="that each Ray worker asks for; default: one, of a cluster that has any"
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="change a field of the recipe, such as generate.guidance_scale=3; may be repeated",
    ),
]
AllowPlugins = Annotated[
    bool,
    typer.Option("--allow-plugins", help="let code run that the recipe names (kind: package.module:Name)"),
]
Variant = Annotated[
    str | None, typer.Option("--variant", metavar="NAME", help="one of the recipe's variants, such as starter")
]


def make_engine(name: str, workers: int | None, address: str | None, gpus: float | None = None) -> Engine:
    """The engine behind the options. Raises FigmentError."""
    from figment.engines import Local

    if name == "local":
        for option, given in (("--address is that", address), ("--gpus is said to the workers", gpus)):
            if given is not None:
                raise FigmentError(f"{option} of a Ray cluster; give --engine ray with it, or leave it out.")
        return Local(workers or 1)
    if name == "ray":
        from figment.engines.ray import Ray

        if gpus is not None and gpus > 1 and gpus != int(gpus):
            raise FigmentError(
                f"--gpus is {gpus:g}: Ray shares one GPU or gives whole ones. Give a share below 1, or a whole number."
            )
        return Ray(workers, address, gpus)
    raise FigmentError(f"There is no engine {name!r}.{nearest(name, ['local', 'ray'])} Allowed: local, ray.")


def default_out(recipe: Path, variant: str | None = None) -> Path:
    """``runs/<recipe>``; the recipe of an earlier run goes on in that run's folder."""
    from figment.claims import is_ours

    if recipe.is_dir():
        return recipe
    if recipe.name in ("recipe.yaml", "resolved.yaml") and is_ours(recipe.parent):
        return recipe.parent
    return Path("runs") / (recipe.stem if variant is None else f"{recipe.stem}-{variant}")
