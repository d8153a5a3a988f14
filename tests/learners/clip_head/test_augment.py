from __future__ import annotations

import numpy as np
import torch

from figment.encoders import ClipEncoder
from figment.images_in import open_images
from figment.learners.clip_head.augment import augmented_features, random_views, view_seed

NAMES = ["red thing", "green thing", "blue thing"]


def test_views_are_crops_of_the_asked_size_and_area():
    ramp = np.zeros((40, 40, 3), np.uint8)
    ramp[:, :, 0], ramp[:, :, 1] = np.arange(40)[None] * 6, np.arange(40)[:, None] * 6
    views = random_views(ramp, 60, 16, (0.5, 1.0), seed=0)
    assert all(view.shape == (16, 16, 3) and view.dtype == np.uint8 for view in views)
    spans = np.array([(np.ptp(v[..., 0].astype(int)), np.ptp(v[..., 1].astype(int))) for v in views]) / (39 * 6)
    areas = spans.prod(1)  # of the image that a view shows, a little less for pixels being points
    assert 0.4 < areas.min() < 0.6 and 0.85 < areas.max() <= 1
    mirrored = np.mean([v[:, 0, 0].astype(int).mean() > v[:, -1, 0].astype(int).mean() for v in views])
    assert 0.25 < mirrored < 0.75


def test_views_follow_from_their_seed_and_leave_the_generator_that_everybody_uses_alone():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    state = torch.get_rng_state()
    one, two = (random_views(image, n, 8, (0.5, 1.0), view_seed(3, 1)) for n in (2, 5))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(np.array_equal(a, b) for a, b in zip(one, two[:2], strict=True))
    assert not np.array_equal(two[0], two[1])
    assert not np.array_equal(one[0], random_views(image, 1, 8, (0.5, 1.0), view_seed(3, 2))[0])


def test_the_whole_image_is_at_most_mirrored():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for seed in range(8):
        (view,) = random_views(image, 1, 16, (1.0, 1.0), seed)
        assert any(np.array_equal(view, expected) for expected in (image, image[:, ::-1]))


def test_features_of_views_are_those_of_the_encoder(clip, photos):
    encoder = ClipEncoder(str(clip), batch_size=7)
    images = open_images(photos / "train", NAMES)
    features, labels = augmented_features(encoder, images, views=3, seed=5)
    assert features.shape == (3 * len(images), 32) and features.dtype == np.float32
    assert np.array_equal(labels, np.repeat(images.labels, 3)) and labels.dtype == np.int64
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    views = random_views(images.load([4])[0], 3, 32, (0.5, 1.0), view_seed(5, 4))
    assert np.allclose(features[12:15], encoder.images(views), atol=1e-5)
    more, _ = augmented_features(encoder, images, views=4, seed=5)
    assert np.allclose(more.reshape(-1, 4, 32)[:, :3].reshape(-1, 32), features, atol=1e-5)
    assert not np.allclose(augmented_features(encoder, images, views=3, seed=6)[0], features, atol=1e-3)


def test_no_images_are_no_features(clip, photos):
    images = open_images(photos / "train", NAMES)
    features, labels = augmented_features(ClipEncoder(str(clip)), images.take([]), views=2, seed=0)
    assert features.shape == (0, 32) and labels.shape == (0,)
