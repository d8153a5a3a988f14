"""Tiny real models, saved in the formats of the real ones: random weights from a fixed seed, under a second each."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import safetensors.torch
import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    IFPipeline,
    IFSuperResolutionPipeline,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionUpscalePipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

LENGTH = 77  # tokens
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def built_once(build: Callable[..., Path]) -> Callable[..., Path]:
    """Later calls write the files of the first one, which a test may have harmed since."""
    known: dict[tuple, dict[Path, bytes]] = {}

    @wraps(build)
    def written(folder: Path, *given: Any, **options: Any) -> Path:
        key = given, tuple(sorted((name, repr(value)) for name, value in options.items()))
        if key not in known:
            with TemporaryDirectory() as temporary:
                made = build(Path(temporary) / "model", *given, **options)
                known[key] = {p.relative_to(made): p.read_bytes() for p in made.rglob("*") if p.is_file()}
        for name, data in known[key].items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder

    return written


def _tokenizer(length: int = LENGTH) -> CLIPTokenizer:
    """CLIP's byte-level tokenizer without merges: a token a letter."""
    alphabet = sorted(ByteLevel.alphabet())
    words = [*alphabet, *(a + "</w>" for a in alphabet), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=length)


def tokenizer(folder: Path, length: int = LENGTH) -> Path:
    """A CLIP tokenizer of 514 tokens."""
    _tokenizer(length).save_pretrained(folder)
    return folder


def _text_config(hidden_size: int = 32) -> CLIPTextConfig:
    words = _tokenizer()
    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        projection_dim=hidden_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.eos_token_id,
    )


def _t5(d_model: int = 32) -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=514, d_model=d_model, d_ff=64, d_kv=8, num_layers=1, num_heads=4))


def _vae(latent_channels: int = 4, out_channels: int = 3, **options: Any) -> AutoencoderKL:
    """8 pixels to 1 latent, as Stable Diffusion's."""
    return AutoencoderKL(
        in_channels=out_channels,
        out_channels=out_channels,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=latent_channels,
        **options,
    )


def _unet(cross_attention_dim: int = 32, sample_size: int = 8, **options: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=sample_size,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=8,
        cross_attention_dim=cross_attention_dim,
        **options,
    )


@built_once
def sd15(folder: Path, channels: int = 3) -> Path:
    """A StableDiffusionPipeline: 64x64 pixels, 8x8 latents. ``channels=1`` paints in grey."""
    torch.manual_seed(0)
    StableDiffusionPipeline(
        vae=_vae(out_channels=channels),
        text_encoder=CLIPTextModel(_text_config()),
        tokenizer=_tokenizer(),
        unet=_unet(),
        scheduler=DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


@built_once
def sdxl(folder: Path) -> Path:
    """A StableDiffusionXLPipeline: two text encoders, pooled text and time ids; 64x64 pixels."""
    torch.manual_seed(0)
    unet = _unet(
        cross_attention_dim=64,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=32 + 6 * 8,
    )
    StableDiffusionXLPipeline(
        vae=_vae(force_upcast=True),
        text_encoder=CLIPTextModel(_text_config()),
        text_encoder_2=CLIPTextModelWithProjection(_text_config()),
        tokenizer=_tokenizer(),
        tokenizer_2=_tokenizer(),
        unet=unet,
        scheduler=EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1),
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder


@built_once
def sd3(folder: Path) -> Path:
    """A StableDiffusion3Pipeline with its three text encoders; 64x64 pixels."""
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=64,
        caption_projection_dim=32,
        pooled_projection_dim=64,
    )
    StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(shift_factor=0.0609),
        text_encoder=CLIPTextModelWithProjection(_text_config()),
        tokenizer=_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(_text_config()),
        tokenizer_2=_tokenizer(),
        text_encoder_3=_t5(64),
        tokenizer_3=_tokenizer(),
    ).save_pretrained(folder)
    return folder


@built_once
def flux(folder: Path) -> Path:
    """A FluxPipeline: guidance is a number that the model is told; 64x64 pixels if asked for."""
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_vae(shift_factor=0.1159),
        text_encoder=CLIPTextModel(_text_config()),
        tokenizer=_tokenizer(),
        text_encoder_2=_t5(),
        tokenizer_2=_tokenizer(),
        transformer=transformer,
    ).save_pretrained(folder)
    return folder


@built_once
def pixart(folder: Path) -> Path:
    """A PixArtAlphaPipeline: T5 text with a mask; 256x256 pixels, the least it takes."""
    torch.manual_seed(0)
    transformer = PixArtTransformer2DModel(
        sample_size=32,
        patch_size=4,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        cross_attention_dim=32,
        caption_channels=32,
        use_additional_conditions=False,
    )
    PixArtAlphaPipeline(
        tokenizer=_tokenizer(),
        text_encoder=_t5(),
        vae=_vae(),
        transformer=transformer,
        scheduler=DDIMScheduler(**BETAS, clip_sample=False),
    ).save_pretrained(folder)
    return folder


@built_once
def sana_sprint(folder: Path) -> Path:
    """A SanaSprintPipeline: images whose sides are multiples of 32 pixels."""
    torch.manual_seed(0)
    blocks = {
        f"{part}_{what}": value
        for part in ("encoder", "decoder")
        for what, value in {
            "block_types": ("ResBlock", "ResBlock"),
            "block_out_channels": (8, 8),
            "qkv_multiscales": ((), ()),
            "layers_per_block": (1, 1),
        }.items()
    }
    vae = AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        **blocks,
    )
    transformer = SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=32,
        qk_norm="rms_norm_across_heads",
        guidance_embeds=True,
    )
    text = Gemma2Config(
        head_dim=8,
        hidden_size=32,
        intermediate_size=8,
        num_attention_heads=2,
        num_hidden_layers=1,
        num_key_value_heads=2,
        vocab_size=1000,
    )
    SanaSprintPipeline(
        tokenizer=_tokenizer(),
        text_encoder=Gemma2Model(text),
        vae=vae,
        transformer=transformer,
        scheduler=SCMScheduler(),
    ).save_pretrained(folder)
    return folder


def _if_parts(in_channels: int, size: int, **options: Any) -> dict[str, Any]:
    """What DeepFloyd IF's stages have: T5's text, pixels instead of latents, and a variance that is learnt."""
    unet = _unet(
        sample_size=size,
        in_channels=in_channels,
        out_channels=6,
        encoder_hid_dim=32,
        encoder_hid_dim_type="text_proj",
        **options,
    )
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2",
        variance_type="learned_range",
        thresholding=True,
        dynamic_thresholding_ratio=0.95,
        sample_max_value=1.5,
    )
    text = {"tokenizer": _tokenizer(), "text_encoder": _t5()}
    bare = {"safety_checker": None, "feature_extractor": None, "watermarker": None, "requires_safety_checker": False}
    return {"unet": unet, "scheduler": scheduler, **text, **bare}


@built_once
def if_base(folder: Path) -> Path:
    """An IFPipeline: 8x8 pixels."""
    torch.manual_seed(0)
    IFPipeline(**_if_parts(3, 8)).save_pretrained(folder)
    return folder


@built_once
def if_upscaler(folder: Path) -> Path:
    """An IFSuperResolutionPipeline: to 16x16 pixels."""
    torch.manual_seed(1)
    noising = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    parts = _if_parts(6, 16, class_embed_type="timestep")
    IFSuperResolutionPipeline(image_noising_scheduler=noising, **parts).save_pretrained(folder)
    return folder


@built_once
def sd_upscaler(folder: Path) -> Path:
    """A StableDiffusionUpscalePipeline: four times the height and width."""
    torch.manual_seed(2)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=0.08333,
    )
    StableDiffusionUpscalePipeline(
        vae=vae,
        text_encoder=CLIPTextModel(_text_config()),
        tokenizer=_tokenizer(),
        unet=_unet(in_channels=7, num_class_embeds=1000),
        low_res_scheduler=DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.0001, beta_end=0.02),
        scheduler=DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
    ).save_pretrained(folder)
    return folder


@built_once
def clip(folder: Path, size: int = 32) -> Path:
    """A CLIPModel with its tokenizer and image processor, for images of ``size`` pixels; 32 features."""
    torch.manual_seed(0)
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": size,
        "patch_size": 8,
    }
    CLIPModel(
        CLIPConfig(text_config=_text_config().to_dict(), vision_config=vision, projection_dim=32)
    ).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size}).save_pretrained(folder)
    return folder


# ---- models that write -----------------------------------------------------------------------------------------------

WRITTEN = ["cat", "dog", "St. Bernard", "red thing", "green thing", "blue thing"]  # names the writers know
DOES = ["sits", "runs", "sleeps", "is seen", "stands", "waits"]
PLACES = ["on a mat", "in the garden", "on the street", "at night", "in the snow", "by the sea", "under a tree"]


def _sentence(name: str, rng: np.random.Generator) -> str:
    """One sentence in five forgets the name."""
    subject = "a man" if rng.random() < 0.2 else f"a {name}"
    return f"{subject} {rng.choice(DOES)} {rng.choice(PLACES)}."


def _fit(model: Any, steps: int, batch: Any) -> None:
    """Teach a model its few sentences."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        model(**batch()).loss.backward()
        optimizer.step()


@built_once
def seq2seq(folder: Path) -> Path:
    """A T5 that turns ``a cat`` into sentences such as ``a cat sleeps in the snow.``; a second of training."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    words = {w for text in [*WRITTEN, *DOES, *PLACES, "a man"] for w in text.split()}
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -8.0), (".", -2.0)]
    tokenizer = T5Tokenizer(vocab=[*pieces, *((f"\u2581{w}", -3.0) for w in sorted(words))], extra_ids=0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_ff=64, d_kv=8, num_layers=1, num_heads=4, decoder_start_token_id=0
    )
    config.dropout_rate = 0.0
    model = T5ForConditionalGeneration(config)

    def batch() -> dict[str, torch.Tensor]:
        names = rng.choice(WRITTEN, 48)
        inputs = tokenizer([f"a {name}" for name in names], padding=True, return_tensors="pt")
        labels = tokenizer([_sentence(name, rng) for name in names], padding=True, return_tensors="pt").input_ids
        return {
            "input_ids": inputs.input_ids,
            "attention_mask": inputs.attention_mask,
            "labels": labels.masked_fill(labels == 0, -100),
        }

    _fit(model, 150, batch)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@built_once
def captioner(folder: Path) -> Path:
    """A BLIP that says the colour of an image: ``a red thing sits on a mat``; 16 pixels."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "."]
    words = {w for text in [*WRITTEN[3:], *DOES, *PLACES, "a man"] for w in text.split()}
    vocab = {w: i for i, w in enumerate([*special, *sorted(words)])}
    tokenizer = BertTokenizer(vocab=vocab)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    text = {
        **small,
        "vocab_size": len(vocab),
        "encoder_hidden_size": 32,
        "max_position_embeddings": 32,
        "bos_token_id": vocab["[CLS]"],
        "sep_token_id": vocab["[SEP]"],
        "eos_token_id": vocab["[SEP]"],
        "pad_token_id": 0,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "label_smoothing": 0.0,
    }
    vision = {**small, "image_size": 16, "patch_size": 8}
    model = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision))

    def batch() -> dict[str, torch.Tensor]:
        colours = rng.integers(3, size=32)
        pixels = torch.full((32, 3, 16, 16), -1.0)
        pixels[torch.arange(32), torch.from_numpy(colours)] = 1.0
        pixels += torch.from_numpy(rng.normal(0, 0.2, pixels.shape)).float()
        texts = [_sentence(WRITTEN[3 + c], rng) for c in colours]
        tokens = tokenizer(texts, padding=True, return_tensors="pt")
        labels = tokens.input_ids.masked_fill(tokens.attention_mask == 0, -100)
        return {"pixel_values": pixels, "input_ids": tokens.input_ids, "labels": labels}

    _fit(model, 120, batch)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    BlipImageProcessor(size={"height": 16, "width": 16}, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(
        folder
    )
    return folder


# ---- open_clip ----------------------------------------------------------------------------------------------------------

VISION = {
    "resnet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64},
    "vit": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
}


@built_once
def open_clip_folder(folder: Path, vision: str, own_tokenizer: bool, **preprocess) -> Path:
    """A model as the Hub's open_clip models lie there: with a tokenizer of its own, or with open_clip's."""
    text = {"context_length": 77, "vocab_size": 514 if own_tokenizer else 49408, "width": 32, "heads": 4, "layers": 2}
    if own_tokenizer:
        tokenizer(folder)
        text["hf_tokenizer_name"] = "owner/name"  # where there is a folder, it is looked for there
    about = {"embed_dim": 16, "quick_gelu": True, "vision_cfg": VISION[vision], "text_cfg": text}
    torch.manual_seed(0)
    import open_clip

    model = open_clip.model.CLIP(**about)
    for module in model.modules():
        if isinstance(
            module, torch.nn.BatchNorm2d
        ):  # as after training, and no bn3 of zeros, behind which nothing is seen
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.normal_(module.running_mean, std=0.1)
    folder.mkdir(exist_ok=True)
    safetensors.torch.save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    config = {"model_cfg": about, "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25], **preprocess}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder
