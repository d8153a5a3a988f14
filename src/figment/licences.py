"""What may be done with generated images: the licences of well-known generators, and what these say of what a model makes.

What a model's own card states comes first; the table speaks where the card is not there. This is no legal advice: each line
names the text that it sums up. Where neither says anything, that is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

NOBODY = "nobody stated one"
SAYS_NOTHING = (None, "", "not stated")  # the last is what a folder of images from elsewhere says of itself
VAGUE = ("other", "unknown")  # tags of the Hub's for what it has no tag for
HUB = "https://huggingface.co/"


@dataclass(frozen=True)
class Licence:
    """``images``: what it says of the images a model makes, and of models that learn from them. ``text``: where it can be read."""

    name: str
    images: str
    text: str


_SILENT = "It is about the model and says nothing of the images that it makes."
_RAIL = "The licensor claims no rights in the images; they may not be put to any of the uses that the licence's attachment A forbids."
_HYBRID = (
    "The images may be used for any purpose that the licence does not prohibit, but not to train a model that competes with it. The"
    " generator is for non-commercial purposes alone, and to train other models for commercial use is none of them."
)
_STABILITY_NC = (
    "The generator is for research and non-commercial use alone. A model that learns from its images counts as a derivative work, which"
    " is bound in the same way."
)

#: The tag on a model's card (``license_name``, else ``license``), in small letters -> the licence.
LICENCES: dict[str, Licence] = {
    "apache-2.0": Licence("Apache License 2.0", _SILENT, "https://www.apache.org/licenses/LICENSE-2.0"),
    "mit": Licence("MIT License", _SILENT, "https://opensource.org/license/mit"),
    "creativeml-openrail-m": Licence("CreativeML Open RAIL-M", _RAIL, HUB + "spaces/CompVis/stable-diffusion-license"),
    "openrail++": Licence(
        "CreativeML Open RAIL++-M", _RAIL, HUB + "stabilityai/stable-diffusion-xl-base-1.0/blob/main/LICENSE.md"
    ),
    "stabilityai-ai-community": Licence(
        "Stability AI Community License",
        "The images are yours, as between you and Stability AI, and may not be used to create or improve a foundational generative"
        " model. Commercial use is free of charge below US $1,000,000 of yearly revenue.",
        "https://stability.ai/community-license-agreement",
    ),
    "stable-cascade-nc-community": Licence(
        "Stability AI Non-Commercial Research Community License",
        _STABILITY_NC,
        HUB + "stabilityai/stable-cascade/blob/main/LICENSE",
    ),
    "sai-nc-community": Licence(
        "Stability AI Non-Commercial Research Community License",
        _STABILITY_NC,
        HUB + "stabilityai/sd-turbo/blob/main/LICENSE",
    ),
    "flux-1-dev-non-commercial-license": Licence(
        "FLUX.1 [dev] Non-Commercial License",
        _HYBRID,
        "https://github.com/black-forest-labs/flux/blob/main/model_licenses/LICENSE-FLUX1-dev",
    ),
    "deepfloyd-if-license": Licence(
        "DeepFloyd IF License",
        "The generator is for non-commercial research alone, and no data that it makes may be used for commercial or production purposes.",
        "https://github.com/deep-floyd/IF/blob/main/LICENSE-MODEL",
    ),
    "tencent-hunyuan-community": Licence(
        "Tencent Hunyuan Community License",
        "The images may not be used to improve any other AI model. Later versions of the licence do not hold in the European Union, the"
        " United Kingdom and South Korea.",
        HUB + "tencent/HunyuanImage-2.1/blob/main/LICENSE",
    ),
    # What a generator of figment's own says in place of a tag.
    "no model: drawn by arithmetic": Licence(
        "", "The images were drawn by arithmetic: no model's licence binds them.", ""
    ),
}

#: A generator on the Hub, as a pattern -> the tag on its card.
GENERATORS: dict[str, str] = {
    "CompVis/stable-diffusion-v1-*": "creativeml-openrail-m",
    "runwayml/stable-diffusion-v1-5": "creativeml-openrail-m",
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "creativeml-openrail-m",
    "stabilityai/stable-diffusion-2*": "openrail++",
    "stabilityai/stable-diffusion-x4-upscaler": "openrail++",
    "stabilityai/stable-diffusion-xl-*-1.0": "openrail++",  # .9 was for research alone
    "PixArt-alpha/PixArt-XL-2-*": "openrail++",
    "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS": "openrail++",  # others of Sigma say openrail
    "stabilityai/stable-diffusion-3*": "stabilityai-ai-community",
    "stabilityai/stable-cascade*": "stable-cascade-nc-community",
    "black-forest-labs/FLUX.1-schnell": "apache-2.0",
    "black-forest-labs/FLUX.1-dev": "flux-1-dev-non-commercial-license",
    "DeepFloyd/IF-*": "deepfloyd-if-license",
    "Tencent-Hunyuan/HunyuanDiT*": "tencent-hunyuan-community",
    "tencent/HunyuanImage-2.1": "tencent-hunyuan-community",
    "hunyuanvideo-community/HunyuanImage-2.1*": "tencent-hunyuan-community",
    "kandinsky-community/kandinsky-2-*": "apache-2.0",
    "kandinsky-community/kandinsky-3": "apache-2.0",
    "Tongyi-MAI/Z-Image-Turbo": "apache-2.0",
    "Qwen/Qwen-Image": "apache-2.0",
    "THUDM/CogView4-6B": "apache-2.0",
    "zai-org/CogView4-6B": "apache-2.0",
    "Alpha-VLLM/Lumina-Image-2.0": "apache-2.0",
    "HiDream-ai/HiDream-I1-*": "mit",
}


def licence_of(made_by: Mapping[str, Any]) -> str:
    """The tags of a generator's licences as it described itself (``model``, ``licence``; ``stages`` of a cascade), in words."""
    return ", ".join(dict.fromkeys(tag or NOBODY for tag in _tags(made_by)))


def uses(made_by: Mapping[str, Any]) -> list[str]:
    """What may be done with a generator's images, as far as anybody stated it: one line of Markdown for each of its licences."""
    lines = list(dict.fromkeys(map(_said, _tags(made_by))))
    if any(one.get("loras") for one in _stages(made_by)):
        lines.append("LoRAs were merged into the generator: they have licences of their own, which nobody looked up.")
    return lines


def _said(tag: str) -> str:
    if not tag:
        return "Nobody stated what may be done with these images: the licence of the generator is not known. Ask whoever made it."
    known = LICENCES.get(tag.lower())
    if known is None:
        return "What that licence says of images is not known to figment: read it before they are used or given away."
    return f"By the {known.name}: {known.images} {known.text}" if known.name else known.images


def _stages(made_by: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return made_by.get("stages") or [made_by]


def _tags(made_by: Mapping[str, Any]) -> list[str]:
    """Of each stage, empty where nobody stated one."""
    return [_tag(str(one.get("model") or ""), one.get("licence")) for one in _stages(made_by)]


def _tag(model: str, stated: Any) -> str:
    told = "" if stated in SAYS_NOTHING else str(stated)
    if told and told.lower() not in VAGUE:
        return told
    name = model.partition("@")[0]  # without the revision
    return next((tag for pattern, tag in GENERATORS.items() if fnmatchcase(name, pattern)), told)
