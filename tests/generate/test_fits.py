"""Which pipelines of diffusers make images from text, told by their class alone."""

from __future__ import annotations

import diffusers
import pytest

from figment.errors import FigmentError
from figment.generate.fits import check_class

MAKES_IMAGES = [
    "AltDiffusionPipeline",
    "AuraFlowPipeline",
    "CogView4Pipeline",
    "Flux2Pipeline",  # which may also be shown images
    "FluxPipeline",
    "IFPipeline",
    "IFSuperResolutionPipeline",  # a stage of a cascade
    "Kandinsky5T2IPipeline",
    "KandinskyV22CombinedPipeline",
    "LDMTextToImagePipeline",
    "LatentConsistencyModelPipeline",
    "Lumina2Pipeline",
    "QwenImagePipeline",
    "SanaSprintPipeline",
    "StableCascadeCombinedPipeline",
    "StableDiffusionUpscalePipeline",
    "StableUnCLIPPipeline",
    "ZImagePipeline",
    "APipelineOfTomorrow",
]
MAKES_OTHERS = [
    "AnimateDiffPipeline",
    "AudioLDM2Pipeline",
    "CogVideoXPipeline",
    "DDPMPipeline",
    "DiTPipeline",
    "FluxFillPipeline",
    "FluxPriorReduxPipeline",
    "IFImg2ImgPipeline",
    "KandinskyPipeline",  # needs the prior's images
    "KandinskyV22PriorPipeline",
    "LattePipeline",
    "MarigoldDepthPipeline",
    "QwenImageEditPipeline",
    "ShapEPipeline",
    "StableDiffusionAttendAndExcitePipeline",  # needs to know which words
    "StableDiffusionControlNetPipeline",
    "StableDiffusionDepth2ImgPipeline",
    "StableDiffusionInstructPix2PixPipeline",
    "StableDiffusionLatentUpscalePipeline",
    "StableDiffusionXLInpaintPipeline",
    "StableVideoDiffusionPipeline",
    "WuerstchenDecoderPipeline",
]


@pytest.mark.slow
def test_pipelines_that_make_images_from_text_pass_and_others_do_not():
    for name in MAKES_IMAGES:
        check_class(name, "x/y")
    for name in MAKES_OTHERS:
        with pytest.raises(FigmentError, match=f"^The model x/y is a {name}, which makes no images from text alone"):
            check_class(name, "x/y")


def test_a_class_whose_packages_are_not_installed_names_them(monkeypatch):
    """diffusers has stand-ins for such, which take no prompt: Kolors makes images from text, and wants sentencepiece."""
    standing = type("StandIn", (), {"_backends": ["torch", "a_package_of_tomorrow"]})
    monkeypatch.setattr(diffusers, "KolorsPipeline", standing, raising=False)
    with pytest.raises(FigmentError, match="^The KolorsPipeline of x/y needs .* pip install a_package_of_tomorrow$"):
        check_class("KolorsPipeline", "x/y")


def test_stand_ins_of_diffusers_say_which_packages_they_stand_for():
    from diffusers.utils.dummy_torch_and_transformers_and_sentencepiece_objects import KolorsPipeline

    assert "sentencepiece" in KolorsPipeline._backends and not hasattr(diffusers.StableDiffusionPipeline, "_backends")
