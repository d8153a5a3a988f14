"""Each method's loss against a twin written from its paper, and what follows each step."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from timm.layers import DropPath
from timm.loss import LabelSmoothingCrossEntropy
from torch import Tensor
from torch.nn import functional as F

from figment.errors import FigmentError
from figment.learners.pretrain import synclr
from figment.learners.pretrain.byol import distance
from figment.learners.pretrain.dino import assignment_loss
from figment.learners.pretrain.heads import BatchNorm
from figment.learners.pretrain.mae import drawing_loss, encode, patches
from figment.learners.pretrain.method import rising
from figment.learners.pretrain.moco import info_nce
from figment.learners.pretrain.moco_v3 import key_loss
from figment.learners.pretrain.settings import (
    CLIPSettings,
    DINOSettings,
    MAESettings,
    MoCoSettings,
    MoCoV3Settings,
    StableRepPlusSettings,
    StableRepSettings,
    SynCLRSettings,
)
from figment.learners.pretrain.synclr import sinkhorn
from figment.learners.pretrain.text import TextTower
from figment.learners.training import random_numbers_of
from pretrained import KINDS, ONE, batch, method, settings, twin


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_goes_down_and_reaches_the_whole_backbone(kind: str):
    own, shown = method(kind), batch(kind)
    optimizer = torch.optim.AdamW([p for p in own.parameters() if p.requires_grad], 1e-3)
    losses = []
    for _ in range(4):
        with random_numbers_of(0):
            loss = own(shown)
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert loss.shape == () and losses[-1] < losses[0] - 0.01
    # no parameter that learns is without a gradient: many processes would wait for it for ever
    assert [name for name, p in own.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(p.grad is not None and p.grad.isfinite().all() for p in own.backbone.parameters() if p.requires_grad)


def test_simclr_takes_other_images_of_a_caption_for_wrong():
    own, shown = method("simclr"), batch("simclr")
    features = own.projector(own.backbone(torch.cat(list(shown.views))))
    torch.testing.assert_close(own(shown), twin(features, torch.arange(12).repeat(2), 0.1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("views", [1, 2])
def test_stablerep_projects_one_image_of_each_caption_at_a_time(views: int):
    own, shown = method("stablerep", views=views), batch("stablerep")
    shown = copy.copy(shown)
    object.__setattr__(shown, "views", [shown.views[0], torch.randn(12, 3, 32, 32)][:views])
    parts, captions = [], []
    for view in shown.views:
        features = own.backbone(view)
        for k in range(3):  # the k-th image of each slot: BatchNorm sees these four alone
            parts.append(own.projector(features[k::3]))
            captions.append(shown.captions[k::3])
    expected = twin(torch.cat(parts), torch.cat(captions), 0.1)
    torch.testing.assert_close(own(shown), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(twin(own.projector(features), shown.captions, 0.1), expected, rtol=1e-3)


def test_stablerep_plus_is_stablerep_and_clip():
    own, shown = method("stablerep_plus"), batch("stablerep_plus")
    features = own.backbone(shown.views[0])
    text = own.text(features, shown.captions, shown.tokens[::3], shown.captions[::3])
    torch.testing.assert_close(own(shown), own.image_loss(features, shown.captions) + text)
    assert text > 0.1


@pytest.mark.parametrize("kind", ["stablerep", "stablerep_plus"])
def test_positives_by_slots_take_a_caption_that_a_step_shows_twice_for_two(kind: str):
    """The published program's: the first and the last slot are of one caption, and it does not look."""
    own, shown = method(kind, positives="slots"), batch(kind)
    apart = torch.arange(12).div(3, rounding_mode="floor")
    by_captions = method(kind)
    own.load_state_dict(by_captions.state_dict())
    expected = by_captions(replace(shown, captions=apart, texts=apart))
    assert torch.equal(own(shown), expected) and not torch.allclose(expected, by_captions(shown))


@pytest.mark.parametrize("kind", ["clip", "stablerep_plus"])
def test_images_of_one_text_are_its_own_whatever_caption_they_count_as(kind: str):
    """Photographs of a class are each a caption of their own and have one text."""
    own, shown = method(kind), batch(kind)
    apart = replace(shown, captions=torch.arange(12))
    texts = [own.text(own.backbone(b.views[0]), b.texts, b.tokens[::3], b.texts[::3]) for b in (shown, apart)]
    assert torch.equal(*texts)
    assert torch.equal(own(shown), own(apart)) == (kind == "clip")


def test_the_scale_of_clip_has_a_limit():
    own, shown = method("clip"), batch("clip")
    own.text.log_scale.data.fill_(math.log(100))
    at_limit = own(shown)
    own.text.log_scale.data.fill_(9.0)
    assert torch.equal(own(shown), at_limit)


def test_a_text_is_read_up_to_its_end_and_no_further():
    from figment.learners.pretrain.method import Setting

    torch.manual_seed(0)
    tower = TextTower(64, 2, Setting(ONE, 3, 32, vocabulary=11, length=5, end=10)).eval()
    text = torch.tensor([[1, 2, 10, 10, 10], [1, 2, 10, 3, 4], [2, 1, 10, 3, 4], [1, 2, 3, 10, 4]])
    same, filled, swapped, longer = tower(text)
    torch.testing.assert_close(same, filled)
    assert not torch.allclose(same, swapped, atol=1e-3) and not torch.allclose(same, longer, atol=1e-3)


def test_supervised_is_cross_entropy():
    own, shown = method("supervised"), batch("supervised")
    logits = own.classifier(own.backbone(shown.views[0]))
    torch.testing.assert_close(own(shown), LabelSmoothingCrossEntropy(0.0)(logits, shown.labels))


def test_mocos_loss_queue_and_key_encoder():
    own, shown = method("moco"), batch("moco")
    query, key = (F.normalize(e(v), dim=-1) for e, v in zip((own.query, own.key), shown.views, strict=True))
    expected = []
    for q, k in zip(query, key, strict=True):  # He et al. 2020, equation 1
        wrong = sum(torch.exp(q @ other / 0.2) for other in own.queue)
        right = torch.exp(q @ k / 0.2)
        expected.append(-torch.log(right / (right + wrong)))
    torch.testing.assert_close(own(shown), torch.stack(expected).mean(), rtol=1e-4, atol=1e-4)
    before = copy.deepcopy(own.key.state_dict())
    own.head[0].weight.data += 1
    for step in range(2):  # 24 keys into a queue of 20
        own(shown)
        own.after_step(0.1 * (step + 1))
    torch.testing.assert_close(own.queue[:4], own.keys[8:])
    torch.testing.assert_close(own.queue[12:], own.keys[:8])
    assert own.place == 4
    moved = own.key.state_dict()["1.0.weight"] - before["1.0.weight"]
    torch.testing.assert_close(moved, torch.full_like(moved, 1 - 0.9**2), rtol=1e-3, atol=1e-4)
    assert info_nce(query, query, own.queue, 1e-3) < 1e-3


def test_moco_v3s_loss_is_symmetric_and_its_keys_follow():
    """Algorithm 1: each view's prediction among the keys of the other view, times twice the temperature."""
    own, shown = method("moco_v3"), batch("moco_v3")
    queries = [F.normalize(own.predictor(own.query(view)), dim=-1) for view in shown.views]
    keys = [F.normalize(own.key(view), dim=-1) for view in shown.views]
    total = 0.0
    for q, k in ((queries[0], keys[1]), (queries[1], keys[0])):
        for i in range(12):
            right, all_of_them = torch.exp(q[i] @ k[i] / 0.2), sum(torch.exp(q[i] @ k[j] / 0.2) for j in range(12))
            total += 2 * 0.2 * -torch.log(right / all_of_them) / 12
    torch.testing.assert_close(own(shown), total, rtol=1e-4, atol=1e-4)
    before = copy.deepcopy(own.key.state_dict())
    own.head[0].weight.data += 1
    own.after_step(0.5)  # half-way from .9 to 1
    moved = own.key.state_dict()["1.0.weight"] - before["1.0.weight"]
    torch.testing.assert_close(moved, torch.full_like(moved, 0.05), rtol=1e-3, atol=1e-4)


def test_moco_v3_takes_an_image_for_no_negative_of_itself():
    """Where a batch shows it twice, both keys are right."""
    torch.manual_seed(0)
    queries, keys = torch.randn(6, 8), torch.randn(6, 8)
    images = torch.tensor([4, 1, 2, 4, 0, 3])
    logits = F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).T / 0.2
    right = (images[:, None] == images[None]).float()
    expected = -(right / right.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(key_loss(queries, keys, images, 0.2, ONE), 2 * 0.2 * expected)
    alone = key_loss(queries, keys, torch.arange(6), 0.2, ONE)
    torch.testing.assert_close(alone, 2 * 0.2 * F.cross_entropy(logits, torch.arange(6)))


@pytest.mark.parametrize("frozen", [True, False])
def test_moco_v3_leaves_the_projection_of_patches_at_random(frozen: bool):
    own = method("moco_v3", freeze_patches=frozen)
    own(batch("moco_v3")).backward()
    assert (own.backbone.patch_embed.proj.weight.grad is None) == frozen
    assert all(p.requires_grad for p in method("moco_v3", backbone="test_resnet", options={}).backbone.parameters())


def captions_of_a_teacher(student: Tensor, teacher: Tensor, captions: Tensor, views: int) -> Tensor:
    """SynCLR's multi-positive loss, a row at a time: a large crop is not compared with the teacher's feature of itself."""
    n, losses = len(teacher), []
    for row in range(views * n):
        others = [j for j in range(n) if views > 1 or j != row]
        positives = [j for j in others if captions[j] == captions[row % n]]
        logits = torch.stack([F.cosine_similarity(student[row], teacher[j], dim=0) / 0.08 for j in others])
        log_q = dict(zip(others, logits.log_softmax(0), strict=True))
        losses.append(-sum(log_q[j] for j in positives) / len(positives))
    return torch.stack(losses).mean()


def swavs(scores: Tensor, temperature: float) -> Tensor:
    """Algorithm 1 of SwAV: prototypes are rows, all of equal mass; samples are columns."""
    q = torch.exp(scores / temperature).T
    q /= q.sum()
    prototypes, samples = q.shape
    for _ in range(3):
        q /= q.sum(1, keepdim=True)
        q /= prototypes
        q /= q.sum(0, keepdim=True)
        q /= samples
    return (q * samples).T


def test_synclrs_loss_is_its_three_parts(monkeypatch):
    own, shown = method("synclr", local_views=2), batch("synclr")
    shown = replace(shown, views=[torch.randn(12, 3, 32, 32) for _ in range(3)])
    hidden = torch.tensor([0, 4, 5]), torch.tensor([[0, 1, 7], [3, 2, 9], [15, 14, 0]])
    monkeypatch.setattr(synclr, "draw_hidden", lambda *_: hidden)
    vit, (backbone, head, patch_head) = own.backbone, own.teacher
    for p in backbone.parameters():
        p.data += 0.01 * torch.randn_like(p)  # they are no longer the same
    x = vit.patch_embed(shown.views[0])
    for image, its in zip(*hidden, strict=True):
        x.flatten(1, -2)[image, its] = own.hidden
    tokens = vit.norm(vit.blocks(vit._pos_embed(x)))
    teacher = head(backbone(shown.views[0]))
    large = own.predictor(own.head(vit.forward_head(tokens, pre_logits=True)))
    small = own.predictor(own.head(vit(torch.cat(shown.views[1:]))))
    contrastive = [
        captions_of_a_teacher(large, teacher, shown.captions, 1),
        captions_of_a_teacher(small, teacher, shown.captions, 2),
    ]
    seen = backbone.forward_features(shown.views[0])[:, -16:]
    scores = patch_head(torch.cat([seen[i, p] for i, p in zip(*hidden, strict=True)]))
    student = own.patch_head(torch.cat([tokens[:, -16:][i, p] for i, p in zip(*hidden, strict=True)]))
    of_patches = -(swavs(scores, 0.04) * torch.log_softmax(student / 0.1, -1)).sum(1).mean()
    torch.testing.assert_close(own(shown), sum(contrastive) + of_patches, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.04, 0.07, 0.5])
def test_sinkhorn_is_swavs(temperature: float):
    scores = torch.rand(7, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = sinkhorn(scores, temperature, ONE)
    torch.testing.assert_close(found, swavs(scores, temperature))
    torch.testing.assert_close(found.sum(1), torch.ones(7))
    assert found.sum(0).std() < 0.3 * (scores / temperature).softmax(1).sum(0).std()  # prototypes are used alike


@pytest.mark.parametrize(("done", "temperature"), [(0.0, 0.04), (1 / 30, 0.055), (1 / 15, 0.07), (0.9, 0.07)])
def test_the_teachers_temperature_rises(done: float, temperature: float, monkeypatch):
    asked, own = [], method("synclr")
    monkeypatch.setattr(synclr, "sinkhorn", lambda scores, t, on: asked.append(t) or scores)
    own.done = done
    own(batch("synclr"))
    assert asked == [pytest.approx(temperature)]


def test_synclr_hides_half_of_the_patches_of_half_of_the_images():
    torch.manual_seed(0)
    which, patches = synclr.draw_hidden(12, 16, 0.5, torch.device("cpu"))
    mask = synclr.hide(which, patches, 12, 16)
    assert sorted(mask.sum(1).tolist()) == [0] * 6 + [8] * 6
    assert not torch.equal(mask[which[0]], mask[which[1]])  # each image others
    own, shown = method("synclr"), batch("synclr")
    changed = shown.views[0].clone()
    for image, patch in mask.nonzero().tolist():
        row, column = divmod(patch, 4)
        changed[image, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 9.0
    seen = [own._tokens(own.backbone, x, mask) for x in (shown.views[0], changed)]
    assert torch.equal(*seen)  # what is hidden is not looked at


@pytest.mark.parametrize("kind", ["synclr", "dino", "moco", "byol"])
def test_a_teacher_skips_no_block(kind: str):
    own = method(kind, options={"patch_size": 8, "drop_path_rate": 0.5})

    def rates(network: torch.nn.Module) -> list[float]:
        return [m.drop_prob for m in network.modules() if isinstance(m, DropPath)]

    follows = next(getattr(own, name) for name in ("teacher", "key", "target") if hasattr(own, name))
    assert max(rates(own.backbone)) == 0.5 and rates(follows) and set(rates(follows)) == {0.0}


def test_byols_loss_both_ways_and_its_target():
    own, shown = method("byol"), batch("byol")
    a, b = shown.views

    def one_way(x: Tensor, y: Tensor) -> Tensor:
        p, t = F.normalize(own.predictor(own.online(x)), dim=-1), F.normalize(own.target(y), dim=-1)
        return (p - t).square().sum(-1).mean()

    torch.testing.assert_close(own(shown), one_way(a, b) + one_way(b, a))
    own(shown).backward()
    assert all(p.grad is None for p in own.target.parameters())
    assert distance(a.flatten(1), 3 * a.flatten(1)).item() == pytest.approx(0, abs=1e-5)
    assert (
        rising(0.996, 0.0) == pytest.approx(0.996)
        and rising(0.996, 1.0) == 1
        and rising(0.9, 0.5) == pytest.approx(0.95)
    )


def test_dinos_loss_and_centre():
    torch.manual_seed(0)
    student, teacher, centre = torch.randn(4, 5, 6), torch.randn(2, 5, 6), torch.randn(1, 6)
    terms = []
    for i in range(2):
        for j in range(4):
            if i != j:
                for b in range(5):
                    t = F.softmax((teacher[i, b] - centre[0]) / 0.04, -1)
                    terms.append(-(t * torch.log(F.softmax(student[j, b] / 0.1, -1))).sum())
    expected = torch.stack(terms).mean()
    torch.testing.assert_close(assignment_loss(list(student), list(teacher), centre, 0.1, 0.04), expected)
    own, shown = method("dino"), batch("dino")
    own(shown)
    mean = torch.cat([own.teacher(v) for v in shown.views[:2]]).mean(0)
    own.after_step(0.5)
    torch.testing.assert_close(own.centre[0], 0.1 * mean, rtol=1e-4, atol=1e-5)


def test_maes_patches_loss_and_encoder():
    torch.manual_seed(0)
    images, order = torch.randn(3, 3, 32, 32), torch.stack([torch.randperm(16) for _ in range(3)])
    tiles, hidden = patches(images, 8), order[:, 4:]
    assert torch.equal(tiles[1, 6], images[1, :, 8:16, 16:24].flatten())
    drawn = torch.randn_like(tiles)
    total = []
    for b in range(3):
        for p in hidden[b]:
            target = tiles[b, p]
            target = (target - target.mean()) / (target.var() + 1e-6) ** 0.5
            total.append((drawn[b, p] - target).square().mean())
    torch.testing.assert_close(drawing_loss(drawn, tiles, hidden), torch.stack(total).mean())
    own = method("mae").eval()
    all_seen = encode(own.backbone, images, torch.arange(16).expand(3, -1))
    torch.testing.assert_close(all_seen, own.backbone.forward_features(images)[:, own.backbone.num_prefix_tokens :])
    # what is hidden is not looked at
    changed = images.clone()
    changed[:, :, 24:, 24:] += 5
    first = torch.arange(15).expand(3, -1)
    assert torch.equal(encode(own.backbone, images, first), encode(own.backbone, changed, first))


def test_a_drawing_lies_where_its_patch_was():
    """Encoded patches come back to their own places, whatever order they were seen in."""
    own = method("mae").eval()
    order = torch.stack([torch.randperm(16) for _ in range(2)])
    encoded = torch.randn(2, 4, own.backbone.embed_dim)
    shuffled = order.clone()
    shuffled[:, :4] = order[:, [2, 0, 3, 1]]
    torch.testing.assert_close(own.decode(encoded, order, 4), own.decode(encoded[:, [2, 0, 3, 1]], shuffled, 4))


@pytest.mark.parametrize("kind", ["mae", "synclr"])
@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext"])
def test_what_hides_patches_is_for_vits(kind: str, backbone: str):
    with pytest.raises(FigmentError, match=f"kind: {kind} .*{backbone} is no plain ViT.*vit_tiny_patch16_224"):
        method(kind, backbone=backbone, options={})


@pytest.mark.parametrize("kind", ["mae", "synclr"])
def test_what_hides_patches_needs_some(kind: str):
    with pytest.raises(FigmentError, match=r"32 pixels is a single one.*patch_size: 4"):
        method(kind, options={"patch_size": 32})


@pytest.mark.parametrize("kind", ["moco", "dino"])
def test_cosines_keep_float32_under_mixed_precision(kind: str):
    torch.manual_seed(0)
    own = method(kind)
    x = F.normalize(torch.randn(8, 16), dim=-1)
    read = own.last if kind == "dino" else lambda x: info_nce(x, x, own.queue, 0.2)
    expected = read(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(read(x), expected)


def test_batch_norm_is_torchs_on_one_process():
    x = torch.randn(9, 4)
    own, theirs = BatchNorm(4, ONE), torch.nn.BatchNorm1d(4)
    assert torch.equal(own(x), theirs(x)) and torch.equal(own.running_var, theirs.running_var)


WRONG = {
    "Extra inputs are not permitted": ("simclr", {"queue": 8}),
    "crop_scale": ("simclr", {"crop_scale": (0.9, 0.2)}),
    "images_per_caption 6 must be at most half of batch_size 11": (
        "stablerep",
        {"images_per_caption": 6, "batch_size": 11},
    ),
    "a multiple of 32": ("mae", {"decoder": (40, 1)}),
    "a multiple of 64": ("clip", {"text_tower": (40, 1)}),
    "greater than or equal to 1": ("simclr", {"projector": [0, 4]}),
    "greater than or equal to 0.02": ("synclr", {"teacher_temperature": (0.01, 0.07)}),
    "weight_decay is 0: give it a start above 0, or set weight_decay_end: null": ("dino", {"weight_decay": 0}),
    "greater than 0": ("dino", {"grad_clip": 0}),
}


@pytest.mark.parametrize(("said", "given"), WRONG.items(), ids=WRONG.keys())
def test_settings_that_cannot_be_meant(said: str, given: tuple[str, dict]):
    with pytest.raises(ValueError, match=said):
        settings(given[0], **given[1])


def test_what_is_left_out_is_as_published():
    own = StableRepSettings()
    assert (own.images_per_caption, own.temperature, own.projector, own.weight_decay) == (
        6,
        0.1,
        [4096, 4096, 256],
        0.1,
    )
    assert own.betas == (0.9, 0.98) and own.highest_rate(8_192) == pytest.approx(0.0032)
    assert StableRepSettings(views=2).highest_rate(256) == pytest.approx(2e-4)
    own = SynCLRSettings()
    assert own.betas == (0.9, 0.999) and own.prototypes == 65_536
    assert (own.images_per_caption, own.temperature, own.momentum, own.weight_decay, own.weight_decay_end) == (4, 0.08, 0.994, 0.04, 0.2)  # fmt: skip
    assert (own.local_views, own.crop_scale, own.mask_ratio, own.options) == (4, (0.32, 1.0), 0.5, {"drop_path_rate": 0.1})  # fmt: skip
    own = CLIPSettings()
    assert (own.betas, own.weight_decay, own.flip) == ((0.9, 0.98), 0.2, 0)
    # Their papers' rates are of batches of 32,768; of 256 these would be next to nothing, and docs/pretrain.md says so.
    assert (own.highest_rate(256), SynCLRSettings().highest_rate(256)) == (1e-4, 7.5e-5)
    assert (MAESettings().betas, MoCoV3Settings().betas, DINOSettings().betas) == ((0.9, 0.95), (0.9, 0.999), (0.9, 0.999))  # fmt: skip
    assert (MoCoV3Settings().temperature, MoCoV3Settings().momentum) == (0.2, 0.99)
    assert (DINOSettings().weight_decay_end, DINOSettings().grad_clip, DINOSettings().frozen_epochs) == (0.4, 3.0, 1)
    assert (MoCoSettings().queue, MoCoSettings().temperature, MoCoSettings().crop_scale) == (65_536, 0.2, (0.2, 1.0))


def test_stablerep_plus_has_the_defaults_of_stablerep_and_reads():
    own, theirs = StableRepPlusSettings(), StableRepSettings()
    assert {name: getattr(own, name) for name in type(theirs).model_fields if name != "kind"} == {
        name: value for name, value in theirs if name != "kind"
    }
    assert own.reads_captions and own.text_tower == (512, 12)
