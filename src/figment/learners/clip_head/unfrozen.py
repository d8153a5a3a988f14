"""Tuning with the encoder in the loop: some of its weights, or a LoRA, or the statistics of its BatchNorm layers.

`tune` and `tune_mixed` encode an image once and train on its features. Here every image goes through the encoder at
every step, which is slower by far, and is what it takes where the encoder changes (He et al. 2023, tables 3, 6 and A.12).
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from figment import records
from figment.checkpoint import Checkpoint
from figment.device import free_memory
from figment.encoders import Features, Towers
from figment.errors import FigmentError, missing_extra
from figment.learners.clip_head.head import Head
from figment.learners.clip_head.linear import matrix_of, tensors_of
from figment.learners.clip_head.losses import Term, loss_terms
from figment.learners.clip_head.pixels import Batch, Batches, Pixels
from figment.learners.clip_head.settings import MixSettings, UnfrozenSettings
from figment.learners.clip_head.wise_ft import interpolate
from figment.learners.training import Step, n_epochs, needs_validation, schedule, train
from figment.learners.updates import autocast_dtype, computing_in
from figment.memory import enough_memory, in_portions, seems_out_of_memory
from figment.types import Images


@dataclass(frozen=True)
class UnfrozenTuned:
    """A tuned encoder and head: ``tuned.head.predict(Features(tuned.encoder)(images))`` classifies.

    ``encoder`` is in float32 and has a fingerprint of its own. ``history`` is that of `Tuned`, with the head's learning
    rate. ``trainable_fraction`` is that of all parameters of the image tower and the head that were tuned, as He et al. count in
    table 3: with the head alone it is not quite 0.
    """

    encoder: Towers
    head: Head
    history: list[dict[str, Any]]
    trainable_fraction: float


def tune_unfrozen(
    encoder: Towers,
    head: Head,
    settings: MixSettings,
    unfrozen: UnfrozenSettings,
    seed: int,
    *,
    synthetic: Images | None,
    real: Images | None,
    val: Images | None = None,
    folder: Path | None = None,
) -> UnfrozenTuned:
    """Train copies of ``encoder`` and ``head`` on generated images, real ones, or both; on a CPU a seed decides all.

    The steps, their order and their loss are those of `tune` for generated images alone, of `tune_few_shot` for real
    ones alone (in batches of ``real_batch_size``), and of `tune_mixed` for both. The soft targets of generated images
    are the opinion of ``head`` on the encoder as it was, of each image without augmentation. The gradient that is
    clipped is that of the head and the encoder together, and both have the same weight decay.

    BatchNorm layers with ``batch_norm="train"`` see what goes through at a time: the real and the generated images of a
    step apart from each other, and each in portions of ``micro_batch``. Their scales and shifts are weights like others,
    which ``trainable_fraction`` decides about. Where the memory of a GPU does not suffice and BatchNorm is frozen, portions are
    halved, which changes nothing but the rounding.

    Images that do not stay in memory are prepared ahead of the steps, beside a GPU by worker processes.

    Args:
        encoder: stays as it is. The copy's weights are float32, on the encoder's device; see ``unfrozen.precision``.
        head: where to start, usually the zero-shot classifier; stays as it is.
        settings: see `MixSettings`; ``learning_rate`` is the head's.
        unfrozen: see `UnfrozenSettings`.
        seed: of the order of the images, random crops, and the LoRA's start and dropout.
        synthetic: generated images, or None.
        real: real images, or None.
        val: validation images, and never the test ones: for the history, and for ``select="validation"``.
        folder: where the training keeps its state, so that the same call goes on after a kill and ends with the same
            weights; None keeps nothing.

    Raises:
        FigmentError: where there are no images, labels do not fit the head, ``select="validation"`` has nothing to
            look at, the encoder has no BatchNorm to train or no attention layers for a LoRA, or memory does not suffice.
        figment.images_in.Unreadable: for an image that cannot be read.
    """
    if synthetic is None and real is None:
        raise FigmentError("There is nothing to learn from: give generated images, real ones, or both.")
    if synthetic is not None:
        needs_validation(settings.select, val)
    features = Features(encoder)
    on_real = settings.model_copy(update={"batch_size": settings.real_batch_size, "soft_weight": 0.0})

    def part(images: Images, s: MixSettings, offset: int) -> _Part:
        x, y = tensors_of(head, features(images), images.labels, "training")
        crops = unfrozen.crop_scale if unfrozen.augment else None
        terms = [replace(t, targets=t.targets.to(encoder.device)) for t in loss_terms(y, x @ matrix_of(head).T, s)]
        return _Part(Pixels(encoder, images, crops, seed + offset), terms, s.batch_size)

    of = [None if p is None else [list(p.digests), p.labels.tolist()] for p in (synthetic, real, val)]
    start = [encoder.fingerprint, {name: value.tolist() for name, value in head.state_dict().items()}]
    identity = records.fingerprint([start, settings.model_dump(), identity_of(unfrozen, encoder.device), of, seed])
    with _seeded(seed), enough_memory(f"{encoder.name} was tuned on {encoder.device}", unfrozen.lighter):
        learner = _Learner(copy.deepcopy(encoder), copy.deepcopy(head), unfrozen)
        made = None if synthetic is None else part(synthetic, settings, 0)
        own = None if real is None else part(real, on_real, 1)
        seen = None if val is None else (Pixels(encoder, val, None, seed), torch.tensor(val.labels))
        history: list[dict[str, Any]] = []
        for phase, (parts, s, least) in enumerate(_plan(settings, on_real, made, own)):
            path = None if folder is None else folder / f"{identity}-{phase}.safetensors"
            checkpoint = None if path is None else Checkpoint(path, f"{identity}-{phase}")
            history += learner.train(parts, s, seed, seen, least, checkpoint)
    tuned = UnfrozenTuned(*learner.finished(head.linear.weight.device), history, learner.trainable_fraction)
    tuned.encoder.fingerprint = identity
    return tuned


def identity_of(unfrozen: UnfrozenSettings, device: torch.device) -> dict[str, Any]:
    """For fingerprints: in float32 models keep the names that they had before there was any other precision."""
    dtype = autocast_dtype(unfrozen.precision, device)
    own = unfrozen.model_dump(exclude={"precision"})
    return own if dtype == torch.float32 else {**own, "precision": str(dtype).removeprefix("torch.")}


def check_unfrozen(encoder: Towers, unfrozen: UnfrozenSettings) -> None:
    """Raise FigmentError for settings that `tune_unfrozen` cannot honour with this encoder: no BatchNorm, nothing for a LoRA."""
    if unfrozen.batch_norm == "train" and not _norms(encoder.image_tower):
        raise FigmentError(
            f"batch_norm: train needs an encoder with BatchNorm layers, and {encoder.name} has none. Choose one with a"
            " ResNet, such as timm/resnet50_clip.openai, or set batch_norm: eval."
        )
    if unfrozen.lora_rank and find_spec("peft") is None:
        raise missing_extra("peft", "finetune")
    if unfrozen.lora_rank and not _attention_layers(encoder.image_tower):
        raise FigmentError(
            f"lora_rank: {unfrozen.lora_rank} needs an image encoder with attention layers that peft can tune, and"
            f" {encoder.name} has none. Choose a ViT, or set lora_rank: 0 and tune a fraction of the weights."
        )


def wise_ft(encoder: Towers, head: Head, tuned: UnfrozenTuned, alpha: float) -> UnfrozenTuned:
    """Between ``encoder`` and ``head`` before tuning (alpha 0) and after it (1): the weights ``(1 - alpha) * before + alpha * after``.

    That is Wortsman et al. 2022, see `interpolate`. Statistics of BatchNorm layers are those after tuning.
    """
    mixed = copy.deepcopy(tuned.encoder)
    tower = interpolate(encoder.image_tower, tuned.encoder.image_tower, alpha)
    mixed.image_tower.load_state_dict(tower.state_dict())
    mixed.fingerprint = records.fingerprint([encoder.fingerprint, tuned.encoder.fingerprint, alpha])
    return replace(tuned, encoder=mixed, head=interpolate(head, tuned.head, alpha))


def from_output(tower: nn.Module, fraction: float) -> list[nn.Parameter]:
    """The parameters of the fewest whole modules at the output end that hold at least ``trainable_fraction`` of all parameters.

    A module is a block, such as a transformer's or a ResNet's, or a layer outside of blocks.
    """

    def module(named: tuple[str, nn.Parameter]) -> str:
        block = re.match(r"(.+?\.\d+)\.", named[0])  # "layer4.2.conv1.weight" is of the block "layer4.2"
        return block[1] if block else named[0].rpartition(".")[0]

    modules = [[p for _, p in named] for _, named in groupby(tower.named_parameters(), module)]
    wanted = fraction * sum(p.numel() for p in tower.parameters())
    chosen: list[nn.Parameter] = []
    while sum(p.numel() for p in chosen) < wanted:
        chosen += modules.pop()
    return chosen


@dataclass(frozen=True)
class _Part:
    """Images of one kind, what is to be learnt from each of them, how many a step takes and how much they count."""

    pixels: Pixels
    terms: list[Term]
    batch_size: int
    weight: float = 1.0


def _plan(
    s: MixSettings, on_real: MixSettings, synthetic: _Part | None, real: _Part | None
) -> list[tuple[list[_Part], MixSettings, int]]:
    """The trainings one after the other: what each learns from at every step, its settings, and its least number of steps."""
    if synthetic is None:
        assert real is not None
        return [([real], on_real.model_copy(update={"warmup_steps": 0, "select": "last"}), s.min_steps)]
    if real is None:
        return [([synthetic], s, 0)]
    if s.order == "mix":
        return [([replace(synthetic, weight=s.synthetic_weight), replace(real, weight=s.real_weight)], s, s.min_steps)]
    both = [([synthetic], s, 0), ([real], on_real, 0)]
    return both if s.order == "synthetic_then_real" else both[::-1]


class _Learner:
    """An encoder and a head that are trained in place."""

    def __init__(self, encoder: Towers, head: Head, unfrozen: UnfrozenSettings):
        self.encoder, self.tower, self.unfrozen = encoder, encoder.image_tower.float(), unfrozen
        encoder.dtype = torch.float32
        self.head = head.to(encoder.device)
        self.micro_batch = unfrozen.micro_batch
        self.dtype = autocast_dtype(unfrozen.precision, encoder.device)
        check_unfrozen(encoder, unfrozen)
        self.norms = _norms(self.tower)
        n_parameters = sum(p.numel() for p in [*self.tower.parameters(), *self.head.parameters()])
        self.tower.requires_grad_(False)
        self.lora = _with_lora(encoder, unfrozen) if unfrozen.lora_rank else None
        for parameter in from_output(self.tower, unfrozen.trainable_fraction) if unfrozen.trainable_fraction else []:
            parameter.requires_grad_(True)
        self.weights = [p for p in self.tower.parameters() if p.requires_grad]
        self.trainable_fraction = sum(p.numel() for p in [*self.weights, *self.head.parameters()]) / n_parameters

    def train(
        self,
        parts: list[_Part],
        s: MixSettings,
        seed: int,
        seen: tuple[Pixels, Tensor] | None,
        min_steps: int,
        checkpoint: Checkpoint | None,
    ) -> list[dict[str, Any]]:
        """Train on a batch of each part a step, an epoch being one pass over the first; returns the history."""
        validate = None if seen is None else lambda: self._accuracy(*seen)
        loop = _UnfrozenLoop(self, parts, s, seed, min_steps)
        return train(loop, select=s.select, validate=validate, checkpoint=checkpoint, description="tune the encoder")

    def finished(self, device: torch.device) -> tuple[Towers, Head]:
        """The encoder, with a LoRA merged into its weights, and the head on ``device``; both ready to predict."""
        if self.lora is not None:
            self.lora.merge_and_unload()
        for module in (self.tower, self.head):
            module.eval().requires_grad_(True).zero_grad()
        return self.encoder, self.head.to(device)

    def mode(self) -> None:
        """Layers such as dropout are on where the encoder is tuned; BatchNorm does as it is told."""
        self.tower.train(bool(self.weights))
        for norm in self.norms:
            norm.train(self.unfrozen.batch_norm == "train")

    def gradient(self, parts: list[_Part], batches: Sequence[Batch]) -> Tensor:
        """The loss of a step; its gradient lies in the parameters. Portions are halved until they fit into memory."""
        while (loss := self._attempt(parts, batches)) is None:
            self.micro_batch = math.ceil(min(self.micro_batch, max(len(index) for index, _ in batches)) / 2)
            free_memory(self.encoder.device)
        return loss

    def _attempt(self, parts: list[_Part], batches: Sequence[Batch]) -> Tensor | None:
        """None where smaller portions may fit: the statistics of BatchNorm would be others."""
        for module in (self.tower, self.head):
            module.zero_grad()
        try:
            losses = [self._portions(part, *batch) for part, batch in zip(parts, batches, strict=True)]
        except (RuntimeError, MemoryError) as error:
            if self.micro_batch == 1 or self.unfrozen.batch_norm == "train" or not seems_out_of_memory(error):
                raise
            return None
        return torch.stack(losses).sum()

    def _portions(self, part: _Part, batch: Tensor, prepared: Tensor | None) -> Tensor:
        """The part's share of the loss, a mean over the batch; gradients are added up portion by portion."""
        total = torch.zeros((), device=self.encoder.device)
        portions = batch.split(self.micro_batch)
        pixels: Sequence[Tensor | None] = (
            [None] * len(portions) if prepared is None else prepared.split(self.micro_batch)
        )
        for index, some in zip(portions, pixels, strict=True):
            with torch.set_grad_enabled(bool(self.weights)), computing_in(self.dtype, self.encoder.device):
                features = self.tower(part.pixels.placed(index, some))  # (B, D)
            logits, rows = self.head(features.float()), index.to(self.encoder.device)
            losses = [
                t.weight
                * t.temperature**2
                * F.cross_entropy(logits / t.temperature, t.targets[rows], label_smoothing=t.label_smoothing)
                for t in part.terms
            ]
            loss = torch.stack(losses).sum() * (part.weight * len(index) / len(batch))
            loss.backward()
            total += loss.detach()
        return total

    @torch.no_grad()
    def _accuracy(self, pixels: Pixels, labels: Tensor) -> float:
        """Share of the images that go to their class in ``labels`` (m,)."""
        self.tower.eval()

        def some(start: int, end: int) -> Tensor:
            return self.head(self.tower(pixels(torch.arange(start, end), 0))).argmax(-1).cpu()

        found, self.encoder.batch_size = in_portions(some, len(labels), self.encoder.batch_size, self.encoder.device)
        return (torch.cat(found) == labels).float().mean().item()


class _UnfrozenLoop:
    """A `figment.learners.training.Loop` that trains a learner's encoder and head in place."""

    def __init__(self, learner: _Learner, parts: list[_Part], s: MixSettings, seed: int, min_steps: int):
        self.learner, self.parts, self.s, self.n = learner, parts, s, len(parts[0].pixels)
        self.steps_an_epoch = math.ceil(self.n / parts[0].batch_size)
        self.epochs = n_epochs(s.epochs, self.steps_an_epoch, min_steps)
        self.images, self.step = self.epochs * self.n, 0
        self.peaks = [s.learning_rate, learner.unfrozen.learning_rate]
        self.rates = schedule(1.0, s.warmup_steps, self.epochs * self.steps_an_epoch)
        groups = [{"params": list(learner.head.parameters())}, {"params": learner.weights}]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=s.weight_decay)
        seeds = [seed, *(seed + 1 for _ in parts[1:])]
        self.loaders = [
            Batches(p.pixels, p.batch_size, own).loader(len(self.rates)) for p, own in zip(parts, seeds, strict=True)
        ]

    def __iter__(self) -> Iterator[Step]:
        learner = self.learner
        if self.step == len(self.rates):  # killed between the last step and what follows: the loaders would begin again
            return
        for batches in zip(*self.loaders, strict=True):
            learner.mode()
            for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
                group["lr"] = self.rates[self.step] * peak
            loss = learner.gradient(self.parts, batches)
            nn.utils.clip_grad_norm_([*learner.head.parameters(), *learner.weights], self.s.grad_clip)
            self.optimizer.step()
            epoch, rate = self.step // self.steps_an_epoch + 1, self.optimizer.param_groups[0]["lr"]
            self.step += 1
            yield Step(epoch, len(batches[0][0]), loss, rate, self.step % self.steps_an_epoch == 0)

    def weights(self) -> dict[str, Tensor]:
        parts = {"tower": self.learner.tower, "head": self.learner.head}
        return {f"{part}.{name}": v for part, module in parts.items() for name, v in module.state_dict().items()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        for part, module in (("tower", self.learner.tower), ("head", self.learner.head)):
            own = {k.removeprefix(f"{part}."): v for k, v in weights.items() if k.startswith(f"{part}.")}
            module.load_state_dict(own)

    def state_dict(self) -> dict[str, Any]:
        random = torch.get_rng_state()  # of a LoRA's dropout
        return {
            "step": self.step,
            "random": random,
            "weights": self.weights(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        for loader in self.loaders:
            loader.batches.handed_out = self.step
        self.load_weights(state["weights"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        torch.set_rng_state(state["random"])


def _with_lora(encoder: Towers, unfrozen: UnfrozenSettings) -> Any:
    """Put a LoRA into the attention layers of the image tower, which alone is tuned then; returns peft's handle on it."""
    from peft import LoraConfig, LoraModel

    layers = _attention_layers(encoder.image_tower)
    config = LoraConfig(
        r=unfrozen.lora_rank, lora_alpha=unfrozen.lora_alpha, lora_dropout=unfrozen.lora_dropout, target_modules=layers
    )
    return LoraModel(encoder.image_tower, config, "default")


def _norms(tower: nn.Module) -> list[_BatchNorm]:
    return [m for m in tower.modules() if isinstance(m, _BatchNorm)]


def _attention_layers(tower: nn.Module) -> list[str]:
    return [name for name, module in tower.named_modules() if _is_attention(name, module)]


def _is_attention(name: str, module: nn.Module) -> bool:
    """Whether a layer is one of attention: torch's MultiheadAttention, or a linear layer in a module called attn.

    ResNets of CLIP have an ``attnpool``, whose layers are read without being called, so that a LoRA would do nothing.
    """
    inside = name.split(".")[-2:-1]
    linear = type(module) is nn.Linear and inside in (["self_attn"], ["attn"])
    return isinstance(module, nn.MultiheadAttention) or linear


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Everything that draws from torch's own generators draws from ``seed``, and nobody else notices."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
