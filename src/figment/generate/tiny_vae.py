"""A small VAE in the place of a model's own: Ollin Boer Bohan's TAESD and its like, AutoencoderTiny in diffusers.

Each was distilled for the latents of one VAE, and paints nonsense from others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch

from figment.errors import FigmentError
from figment.generate.guidance import config_of
from figment.generate.opening import open_part
from figment.generate.speed import Tried
from figment.generate.speed_settings import TINY
from figment.models import ModelFolder, resolve

KIND = "AutoencoderTiny"
#: (channels, scaling_factor, shift_factor) of a VAE's latents, which tell them apart -> whose they are, and the small VAE for them.
SPACES = {
    (4, 0.18215, 0.0): ("Stable Diffusion 1 and 2", "madebyollin/taesd"),
    (4, 0.13025, 0.0): ("Stable Diffusion XL", "madebyollin/taesdxl"),
    (16, 1.5305, 0.0609): ("Stable Diffusion 3", "madebyollin/taesd3"),
    (16, 0.3611, 0.1159): ("Flux", "madebyollin/taef1"),
}


def resolve_tiny(asked: str | None, folder: Path, model: str, allow_pickle: bool) -> ModelFolder | None:
    """The small VAE that a recipe asks for, if it does, for the pipeline in ``folder``. Raises FigmentError for one that does not go with its latents,
    before any weights are fetched where that is known by name."""
    if asked is None:
        return None
    own = config_of(folder / "vae")
    name = name_for(asked, own, model)
    try:
        found = resolve(name, allow_pickle=allow_pickle)
    except FigmentError as error:
        raise FigmentError(f"generate.speed.vae: {error} Set {TINY}, or the folder or Hub id of an {KIND}.") from error
    _check_fits(config_of(found.path), own, name, model)
    return found


def name_for(asked: str, own: dict[str, Any], model: str) -> str:
    """The folder or Hub id of the small VAE that is asked for, by the configuration of the model's ``own`` VAE, empty where it has none.
    Raises FigmentError for one that is known not to go with it."""
    repository = _repository(own)
    known = "; ".join(f"{repo} for {whose}" for whose, repo in SPACES.values())
    if own.get("_class_name") != "AutoencoderKL":
        raise FigmentError(
            f"generate.speed.vae puts a small VAE in the place of an AutoencoderKL, and {model} decodes with"
            f" {own.get('_class_name') or 'none'}. Leave it out."
        )
    if asked == TINY and repository is None:
        raise FigmentError(
            f"generate.speed.vae: tiny is not there for {model}: its latents ({_said(own)}) are those of no VAE that a small one is known"
            f" for ({known}). Leave it out, or name the folder of an {KIND} that was trained for them."
        )
    named = asked.partition("@")[0]
    whose = {repo: space for space, repo in SPACES.values()}
    if named in whose and named != repository:
        fits = f" Set generate.speed.vae: {TINY}, which is {repository}." if repository else " Leave it out."
        raise FigmentError(
            f"generate.speed.vae: {asked} was trained for the latents of {whose[named]}, and those of {model} are others"
            f" ({_said(own)}).{fits}"
        )
    return repository if asked == TINY and repository else asked


def _repository(own: dict[str, Any]) -> str | None:
    """Of the small VAE for a VAE's latents, by its configuration."""
    latents = (_channels(own), _scale(own), own.get("shift_factor") or 0.0)
    if own.get("latents_mean") is not None:  # of others than those of whom it has the rest
        return None
    return SPACES.get(latents, (None, None))[1]


def _channels(config: dict[str, Any]) -> int:
    return config.get("latent_channels", 4)


def _scale(config: dict[str, Any]) -> float:
    """Older files lack it."""
    return config.get("scaling_factor") or 0.18215


def _levels(config: dict[str, Any], side: str) -> int:
    """Each but one halves the image."""
    return len(config.get(side) or (64,) * 4)


def _said(own: dict[str, Any]) -> str:
    return f"{_channels(own)} channels, scaled by {_scale(own):g}"


def _check_fits(tiny: dict[str, Any], own: dict[str, Any], name: str, model: str) -> None:
    """Raise FigmentError for what is no small VAE, or one of latents of another form."""
    if tiny.get("_class_name") != KIND:
        raise FigmentError(
            f"generate.speed.vae: {name} is no {KIND} of diffusers, but {tiny.get('_class_name') or 'something else'}. Set {TINY}, or the"
            " folder of one."
        )
    pixels = [2 ** (_levels(tiny, "decoder_block_out_channels") - 1), 2 ** (_levels(own, "block_out_channels") - 1)]
    if (_channels(tiny), pixels[0]) != (_channels(own), pixels[1]):
        raise FigmentError(
            f"generate.speed.vae: {name} decodes latents of {_channels(tiny)} channels and {pixels[0]} pixels a side, and those of {model}"
            f" have {_channels(own)} and {pixels[1]}. Set {TINY}, or one that was trained for them."
        )


def put_in(pipe: Any, tiny: ModelFolder, dtype: torch.dtype, allow_pickle: bool) -> Tried:
    """The pipeline decodes with it from now on; the model's own stands beside it once, to be timed. Raises FigmentError."""
    own = pipe.vae
    small: Any = open_part(diffusers.AutoencoderTiny, tiny.path, "vae", tiny.name, dtype, allow_pickle)
    pipe.register_modules(vae=small)
    scale, shift = own.config.scaling_factor, own.config.get("shift_factor") or 0.0

    def plain(latents: torch.Tensor, *more: Any, **named: Any) -> Any:
        """Small VAEs take latents as the denoiser leaves them."""
        return own.to(latents.device).decode(latents / scale + shift, *more, **named)

    decode = small.decode
    tried = Tried("vae", "decoder", plain, lambda given, named: decode, asked_for=True)
    small.decode = tried
    return tried
