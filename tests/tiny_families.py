"""Tiny pipelines of families that are given plain texts, with what each has of its own: untrained weights, a second each at most."""

from __future__ import annotations

from pathlib import Path

import diffusers
import torch
import transformers

import tiny

CHAT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def _chatting(length: int = 512) -> transformers.PreTrainedTokenizer:
    """With a template of its own, which says of a chat what was said in it."""
    words = tiny._tokenizer(length)
    words.chat_template = CHAT
    return words


def _qwen3(hidden_size: int = 32, layers: int = 2) -> transformers.Qwen3Config:
    return transformers.Qwen3Config(
        vocab_size=514,
        hidden_size=hidden_size,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=1024,
    )


def _gemma() -> transformers.Gemma2Model:
    return transformers.Gemma2Model(
        transformers.Gemma2Config(
            head_dim=8,
            hidden_size=32,
            intermediate_size=8,
            num_attention_heads=2,
            num_hidden_layers=2,
            num_key_value_heads=2,
            vocab_size=1000,
        )
    )


def _flow(**more) -> diffusers.FlowMatchEulerDiscreteScheduler:
    return diffusers.FlowMatchEulerDiscreteScheduler(**more)


@tiny.built_once
def z_image(folder: Path) -> Path:
    torch.manual_seed(0)
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=32,
        axes_dims=[4, 4, 8],
        axes_lens=[1024, 64, 64],
    )
    for padding in (transformer.x_pad_token, transformer.cap_pad_token):
        torch.nn.init.zeros_(padding)
    diffusers.ZImagePipeline(
        scheduler=_flow(),
        vae=tiny._vae(shift_factor=0.1),
        text_encoder=transformers.Qwen3Model(_qwen3()),
        tokenizer=_chatting(),
        transformer=transformer,
    ).save_pretrained(folder)
    return folder


@tiny.built_once
def ldm(folder: Path) -> Path:
    torch.manual_seed(0)
    text = diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion.LDMBertConfig(
        vocab_size=514, d_model=32, encoder_layers=1, encoder_ffn_dim=32, encoder_attention_heads=2, head_dim=16
    )
    diffusers.LDMTextToImagePipeline(
        vqvae=tiny._vae(),
        bert=diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion.LDMBertModel(text),
        tokenizer=tiny._tokenizer(),
        unet=tiny._unet(),
        scheduler=diffusers.DDIMScheduler(**tiny.BETAS, clip_sample=False, set_alpha_to_one=False),
    ).save_pretrained(folder)
    return folder


@tiny.built_once
def kandinsky22(folder: Path) -> Path:
    torch.manual_seed(0)
    vision = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
        projection_dim=32,
    )
    prior = diffusers.PriorTransformer(num_attention_heads=2, attention_head_dim=8, num_layers=1, embedding_dim=32)
    torch.nn.init.ones_(prior.clip_std)
    diffusers.KandinskyV22CombinedPipeline(
        unet=diffusers.UNet2DConditionModel(
            in_channels=4,
            out_channels=8,
            addition_embed_type="image",
            encoder_hid_dim=32,
            encoder_hid_dim_type="image_proj",
            cross_attention_dim=32,
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            block_out_channels=(16, 32),
            layers_per_block=1,
            norm_num_groups=8,
            attention_head_dim=8,
            resnet_time_scale_shift="scale_shift",
        ),
        scheduler=diffusers.DDPMScheduler(**tiny.BETAS, variance_type="learned_range"),
        movq=_movq(),
        prior_prior=prior,
        prior_image_encoder=transformers.CLIPVisionModelWithProjection(vision),
        prior_text_encoder=transformers.CLIPTextModelWithProjection(tiny._text_config()),
        prior_tokenizer=tiny._tokenizer(),
        prior_scheduler=diffusers.UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample=True, clip_sample_range=5.0
        ),
        prior_image_processor=transformers.CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
    ).save_pretrained(folder)
    return folder


@tiny.built_once
def krea2(folder: Path) -> Path:
    torch.manual_seed(0)
    diffusers.Krea2Pipeline(
        scheduler=_flow(use_dynamic_shifting=True),
        vae=_qwen_vae(),
        text_encoder=transformers.Qwen3VLModel(_qwen3_vl()),
        tokenizer=_chatting(),
        transformer=diffusers.Krea2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=32,
            timestep_embed_dim=16,
            text_hidden_dim=32,
            num_text_layers=2,
            text_num_attention_heads=2,
            text_num_key_value_heads=2,
            text_intermediate_size=32,
            num_layerwise_text_blocks=1,
            num_refiner_text_blocks=1,
            axes_dims_rope=(4, 4, 8),
        ),
        text_encoder_select_layers=(0, 1),
    ).save_pretrained(folder)
    return folder


def _qwen_vae() -> diffusers.AutoencoderKLQwenImage:
    return diffusers.AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
    )


def _qwen3_vl() -> transformers.Qwen3VLConfig:
    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 1e6}
    text = {**_qwen3().to_dict(), "rope_parameters": rope, "rope_scaling": rope, "model_type": "qwen3_vl_text"}
    vision = {
        "depth": 1,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": 32,
        "deepstack_visual_indexes": [0],
        "num_position_embeddings": 16,
    }
    return transformers.Qwen3VLConfig(text_config=text, vision_config=vision)


@tiny.built_once
def qwen_image(folder: Path) -> Path:
    torch.manual_seed(0)
    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 1e6}
    text = {
        "vocab_size": 514,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_parameters": rope,
        "rope_scaling": rope,
    }
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
    diffusers.QwenImagePipeline(
        scheduler=_flow(use_dynamic_shifting=True),
        vae=_qwen_vae(),
        text_encoder=transformers.Qwen2_5_VLForConditionalGeneration(
            transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision)
        ),
        tokenizer=_chatting(1024),
        transformer=diffusers.QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            axes_dims_rope=(4, 4, 8),
        ),
    ).save_pretrained(folder)
    return folder


@tiny.built_once
def kandinsky3(folder: Path) -> Path:
    torch.manual_seed(0)
    diffusers.Kandinsky3Pipeline(
        tokenizer=tiny._tokenizer(128),
        text_encoder=tiny._t5(),
        unet=diffusers.Kandinsky3UNet(
            in_channels=4,
            time_embedding_dim=16,
            groups=2,
            attention_head_dim=4,
            layers_per_block=2,
            block_out_channels=(8, 8, 16, 16),
            cross_attention_dim=16,
            encoder_hid_dim=32,
        ),
        scheduler=diffusers.DDPMScheduler(**tiny.BETAS),
        movq=_movq(),
    ).save_pretrained(folder)
    return folder


def _movq() -> diffusers.VQModel:
    """Kandinsky's decoder: its groups are of 32 channels, whatever it is told."""
    return diffusers.VQModel(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        vq_embed_dim=4,
        num_vq_embeddings=8,
        norm_type="spatial",
    )


@tiny.built_once
def lumina2(folder: Path) -> Path:
    torch.manual_seed(0)
    diffusers.Lumina2Pipeline(
        transformer=diffusers.Lumina2Transformer2DModel(
            sample_size=8,
            in_channels=4,
            hidden_size=32,
            num_layers=1,
            num_refiner_layers=1,
            num_attention_heads=2,
            num_kv_heads=2,
            multiple_of=16,
            axes_dim_rope=(4, 4, 8),
            axes_lens=(512, 64, 64),
            cap_feat_dim=32,
        ),
        scheduler=_flow(),
        vae=tiny._vae(shift_factor=0.1),
        text_encoder=_gemma(),
        tokenizer=tiny._tokenizer(256),
    ).save_pretrained(folder)
    return folder


@tiny.built_once
def aura_flow(folder: Path) -> Path:
    torch.manual_seed(0)
    text = transformers.UMT5Config(vocab_size=514, d_model=32, d_ff=32, d_kv=8, num_layers=1, num_heads=4)
    diffusers.AuraFlowPipeline(
        tokenizer=tiny._tokenizer(256),
        text_encoder=transformers.UMT5EncoderModel(text),
        vae=tiny._vae(),
        transformer=diffusers.AuraFlowTransformer2DModel(
            sample_size=8,
            num_mmdit_layers=1,
            num_single_dit_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=32,
            caption_projection_dim=32,
            pos_embed_max_size=64,
        ),
        scheduler=_flow(),
    ).save_pretrained(folder)
    return folder


@tiny.built_once
def chroma(folder: Path) -> Path:
    torch.manual_seed(0)
    diffusers.ChromaPipeline(
        scheduler=_flow(),
        vae=tiny._vae(shift_factor=0.1),
        text_encoder=tiny._t5(),
        tokenizer=tiny._tokenizer(512),
        transformer=diffusers.ChromaTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            axes_dims_rope=(4, 4, 8),
            approximator_num_channels=8,
            approximator_hidden_dim=16,
            approximator_layers=1,
        ),
    ).save_pretrained(folder)
    return folder


@tiny.built_once
def flux2_klein(folder: Path, is_distilled: bool = False) -> Path:
    torch.manual_seed(0)
    diffusers.Flux2KleinPipeline(
        scheduler=_flow(use_dynamic_shifting=True),
        vae=diffusers.AutoencoderKLFlux2(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            norm_num_groups=4,
            latent_channels=4,
        ),
        text_encoder=transformers.Qwen3ForCausalLM(_qwen3(11, 28)),
        tokenizer=_chatting(),
        transformer=diffusers.Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=33,
            timestep_guidance_channels=16,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=False,
        ),
        is_distilled=is_distilled,
    ).save_pretrained(folder)
    return folder


@tiny.built_once
def cogview4(folder: Path) -> Path:
    torch.manual_seed(0)
    text = transformers.GlmConfig(
        vocab_size=514,
        hidden_size=32,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        pad_token_id=0,
    )
    diffusers.CogView4Pipeline(
        tokenizer=tiny._tokenizer(224),
        text_encoder=transformers.GlmModel(text),
        vae=tiny._vae(),
        transformer=diffusers.CogView4Transformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            text_embed_dim=32,
            time_embed_dim=8,
            condition_dim=4,
            sample_size=8,
        ),
        scheduler=_flow(base_shift=0.25, max_shift=0.75, use_dynamic_shifting=True, time_shift_type="linear"),
    ).save_pretrained(folder)
    return folder


@tiny.built_once
def lcm(folder: Path) -> Path:
    torch.manual_seed(0)
    diffusers.LatentConsistencyModelPipeline(
        vae=tiny._vae(),
        text_encoder=transformers.CLIPTextModel(tiny._text_config()),
        tokenizer=tiny._tokenizer(),
        unet=tiny._unet(time_cond_proj_dim=32),
        scheduler=diffusers.LCMScheduler(**tiny.BETAS),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder
