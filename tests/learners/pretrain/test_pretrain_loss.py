"""The multi-positive loss against a slow twin written from the paper, and against what it is in special cases."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from figment.learners.pretrain.loss import contrast, multi_positive
from figment.learners.pretrain.text import image_text_loss
from pretrained import ONE, twin

GROUPS = {
    "two of each": [0, 0, 1, 1, 2, 2, 3, 3],
    "three of each": [0, 0, 0, 1, 1, 1, 2, 2, 2],
    "a caption in two slots": [0, 0, 1, 1, 0, 0, 2, 2],
    "uneven": [5, 5, 5, 5, 7, 9, 9, 7, 9],
    "some alone": [0, 0, 1, 2, 2, 3],
    "all of one": [4, 4, 4, 4],
}


@pytest.mark.parametrize("chunk", [1, 3, 1024])
@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS.keys())
def test_loss_and_gradient_are_the_twins(groups: list[int], chunk: int):
    torch.manual_seed(0)
    g = torch.tensor(groups)
    x = torch.randn(len(g), 8, requires_grad=True)
    y = x.detach().double().requires_grad_(True)
    loss, expected = multi_positive(x, g, 0.1, ONE, chunk), twin(y, g, 0.1)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(x.grad.double(), y.grad, rtol=1e-4, atol=1e-5)


def test_two_views_of_each_are_nt_xent():
    """SimCLR's equation 1, and the number that lightly 1.6 gives for it."""
    torch.manual_seed(0)
    a, b = torch.randn(6, 8), torch.randn(6, 8)
    z = F.normalize(torch.cat([a, b]), dim=-1)
    logits = (z @ z.T / 0.5).fill_diagonal_(-torch.inf)
    own = F.cross_entropy(logits, torch.arange(12).roll(6))
    loss = multi_positive(torch.cat([a, b]), torch.arange(6).repeat(2), 0.5, ONE)
    torch.testing.assert_close(loss, own)
    assert loss.item() == pytest.approx(2.575084, abs=1e-5)


@pytest.mark.parametrize("m", [2, 3, 6])
def test_perfect_features_have_the_loss_of_their_floor(m: int):
    """Positives at cosine 1, all others at -1: ln(m - 1), which no features go below."""
    x = torch.cat([torch.ones(m, 1), -torch.ones(m, 1)])
    groups = torch.tensor([0, 1]).repeat_interleave(m)
    assert multi_positive(x, groups, 0.01, ONE).item() == pytest.approx(math.log(m - 1), abs=1e-5)
    assert multi_positive(torch.randn(2 * m, 4), groups, 0.1, ONE).item() > math.log(m - 1)


@pytest.mark.parametrize(("captions", "m"), [(4, 2), (3, 4), (2, 6)])
def test_equal_features_have_the_loss_of_guessing(captions: int, m: int):
    groups = torch.arange(captions).repeat_interleave(m)
    loss = multi_positive(torch.ones(captions * m, 5), groups, 0.1, ONE)
    assert loss.item() == pytest.approx(math.log(captions * m - 1), abs=1e-5)


def test_where_each_is_alone_there_is_nothing_to_learn():
    x = torch.randn(4, 3, requires_grad=True)
    loss = multi_positive(x, torch.arange(4), 0.1, ONE)
    loss.backward()
    assert loss.item() == 0 and not x.grad.any()


def test_nothing_of_the_size_of_the_batch_squared_is_kept():
    kept = []
    x = torch.randn(512, 8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        multi_positive(x, torch.arange(256).repeat(2), 0.1, ONE, chunk=32).backward()
    assert max(kept) == 512 * 8


def test_images_and_texts_one_of_each_are_clips_loss():
    torch.manual_seed(0)
    image, text = (F.normalize(torch.randn(5, 7), dim=-1).requires_grad_(True) for _ in range(2))
    scale, own = torch.tensor(9.0, requires_grad=True), torch.arange(5)
    loss = image_text_loss(image, text, own, own, scale, ONE)
    logits = scale * image @ text.T
    expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    torch.testing.assert_close(loss, expected)
    found, known = (torch.autograd.grad(one, (image, text, scale)) for one in (loss, expected))
    torch.testing.assert_close(found, known)


def test_a_text_belongs_to_all_images_of_its_caption():
    torch.manual_seed(0)
    image, text = F.normalize(torch.randn(6, 7), dim=-1), F.normalize(torch.randn(3, 7), dim=-1)
    captions, said = torch.tensor([0, 0, 1, 1, 0, 0]), torch.tensor([0, 1, 0])  # caption 0 in two slots
    logits = 3.0 * image @ text.T  # (6, 3)
    same = (captions[:, None] == said[None]).float()
    to_text = -(same / same.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
    to_image = -((same / same.sum(0)).T * logits.T.log_softmax(1)).sum(1).mean()
    loss = image_text_loss(image, text, captions, said, torch.tensor(3.0), ONE)
    torch.testing.assert_close(loss, (to_text + to_image) / 2)


def test_half_precision_around_it_changes_nothing():
    torch.manual_seed(0)
    x, g = torch.randn(12, 8, requires_grad=True), torch.arange(12) // 3
    loss = multi_positive(x, g, 0.05, ONE)
    with torch.autocast("cpu", torch.bfloat16):
        same = multi_positive(x, g, 0.05, ONE)
    assert torch.equal(loss, same)
    found, known = (torch.autograd.grad(one, x)[0] for one in (same, loss))
    assert torch.equal(found, known)


def test_large_logits_stay_finite():
    x = torch.tensor([[200.0], [-200.0], [200.0]], requires_grad=True)
    loss = contrast(x, x, torch.tensor([0, 0, 1]), torch.tensor([0, 0, 1]), ONE, torch.arange(3))
    loss.backward()
    assert loss.isfinite() and x.grad.isfinite().all()
