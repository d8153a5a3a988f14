"""Tiny real models, saved in the formats of the real ones: random weights from a fixed seed, under a second each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
)

LENGTH = 77  # tokens
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


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


def clip(folder: Path, size: int = 32) -> Path:
    """A CLIPModel with its tokenizer and image processor, for pictures of ``size`` pixels; 32 features."""
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
