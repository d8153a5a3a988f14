"""The starter's CLIP, a small ViT and a small text tower, trained on web images and their captions; and the generator's text tower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextModel, CLIPTokenizer
from transformers import logging as transformers_logging

from . import captions, data, training

CONTEXT = 32  # tokens
VOCABULARY = 1_024  # the 512 byte symbols of CLIP's tokenizer and what merges best in the captions


def make_tokenizer(captioner: captions.Captioner, seed: int = 0) -> CLIPTokenizer:
    """CLIP's byte-level BPE, its merges learnt from 50,000 captions."""
    rng = np.random.default_rng(seed)
    corpus = [captioner(i, rng).lower() for i in rng.integers(len(captioner.labels), size=50_000)]
    transformers_logging.set_verbosity_error()
    tokenizer = CLIPTokenizer().train_new_from_iterator(corpus, VOCABULARY)
    return CLIPTokenizer(*_vocabulary_and_merges(tokenizer), model_max_length=CONTEXT)


def _vocabulary_and_merges(tokenizer) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's order of the vocabulary: bytes, bytes that end a word, merges, start, end."""
    import json

    merges = [tuple(m) for m in json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]]
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())
    words = [
        *alphabet,
        *(a + "</w>" for a in alphabet),
        *("".join(m) for m in merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    return {word: i for i, word in enumerate(dict.fromkeys(words))}, merges


def make_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    shared = {"hidden_size": 192, "intermediate_size": 768, "num_attention_heads": 3, "projection_dim": 128}
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.eos_token_id,
    }
    text = {**shared, "num_hidden_layers": 4, "vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT, **ids}
    vision = {**shared, "num_hidden_layers": 6, "image_size": 32, "patch_size": 8}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=128))


def image_processor() -> CLIPImageProcessor:
    """Resize to 32 pixels, scale to [-1, 1]."""
    half = [0.5, 0.5, 0.5]
    size = {"height": 32, "width": 32}
    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size, image_mean=half, image_std=half)


def tokens(tokenizer: CLIPTokenizer, texts: list[str], padding: str = "longest") -> torch.Tensor:
    """``int64 (B, L)``, L at most CONTEXT. The text tower is causal, so what pads a caption changes nothing before it."""
    return tokenizer(texts, padding=padding, truncation=True, max_length=CONTEXT, return_tensors="pt").input_ids


def contrastive_loss(logits: torch.Tensor) -> torch.Tensor:
    """Which caption belongs to which image, and which image to which caption. ``logits``: ``float (B, B)``."""
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def train(
    out: Path, data_folder: Path, device: torch.device, *, steps=2_000, batch=256, minutes: float | None = None
) -> None:
    """The CLIP that users have."""
    model, tokenizer = _train(
        "clip", data.CLIP_CATALOGUE_SHARE, out, data_folder, device, steps=steps, batch=batch, minutes=minutes
    )
    model.save_pretrained(out / "clip")
    tokenizer.save_pretrained(out / "clip")
    image_processor().save_pretrained(out / "clip")


def train_text_encoder(
    out: Path, data_folder: Path, device: torch.device, *, steps=2_000, batch=256, minutes: float | None = None
) -> None:
    """What the denoiser reads with: the text tower of another CLIP, learnt from the generator's web. With the tower of the users' CLIP,
    which has seen few pictures of a look, the words of two looks are nearly one, and an x-ray comes out as a sketch."""
    model, tokenizer = _train(
        "text", data.CATALOGUE_SHARE, out, data_folder, device, steps=steps, batch=batch, minutes=minutes
    )
    tower = CLIPTextModel(model.config.text_config)
    tower.load_state_dict(model.text_model.state_dict())
    tower.save_pretrained(out / "pipeline" / "text_encoder")
    tokenizer.save_pretrained(out / "pipeline" / "tokenizer")


def _train(
    name: str, catalogue: float, out: Path, data_folder: Path, device: torch.device, *, batch: int, **length: Any
) -> tuple[CLIPModel, CLIPTokenizer]:
    web = data.web(data_folder, catalogue)
    captioner, pixels = captions.Captioner(web), torch.from_numpy(web.images)
    tokenizer = make_tokenizer(captioner)
    torch.manual_seed(0)
    model = make_model(tokenizer).to(device)

    def loss_of_step(step: int) -> torch.Tensor:
        rng = np.random.default_rng([1, step])
        index = rng.integers(len(pixels), size=batch)
        ids = tokens(tokenizer, [captioner(i, rng) for i in index]).to(device)
        x = training.to_input(pixels[index], device)  # (B, 3, 32, 32)
        return contrastive_loss(model(input_ids=ids, pixel_values=x).logits_per_image.float())

    settings = {"learning_rate": 1e-3, "warmup_steps": 200, "weight_decay": 0.1, "betas": (0.9, 0.98)}
    training.train(name, model, loss_of_step, out, device, ema_decay=0.999, **settings, **length)
    return model, tokenizer
