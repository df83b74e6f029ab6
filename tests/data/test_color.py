"""The color jitter."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from coupled_embedding.data.coco import load_records
from coupled_embedding.data.dataset import SampleKey, TrainDataset
from coupled_embedding.data.schema import load_schema
from coupled_embedding.data.transforms import Augmentation

LUMA = np.array([0.114, 0.587, 0.299])  # blue, green, red
GRAYS = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)


def jitter(image, share, seed):
    return Augmentation(color=share).jitter_color(np.random.default_rng(seed), image)


def test_no_color_jitter_changes_and_draws_nothing():
    rng = np.random.default_rng(3)
    assert Augmentation(color=0).jitter_color(rng, GRAYS) is GRAYS
    assert rng.random() == np.random.default_rng(3).random()


@given(share=st.floats(0.01, 0.9), seed=st.integers(0, 10**6))
def test_grays_stay_gray_in_order_and_near(share, seed):
    out = jitter(GRAYS, share, seed).astype(int)
    assert np.abs(out - out[..., :1]).max() <= 1  # rounding
    assert (np.diff(out, axis=0) >= 0).all()
    # contrast moves black and white by share · 127.5, brightness all by as much
    assert np.abs(out - GRAYS).max() <= 255 * share + 1


@given(share=st.floats(0.05, 0.3), seed=st.integers(0, 10**6))
def test_saturation_keeps_the_luma_order_of_colors(share, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(110, 146, (20, 1, 3), np.uint8)
    image[0], image[1] = (128, 128, 128), (129, 129, 129)
    out = jitter(image, share, seed) @ LUMA
    step = out[1] - out[0]
    # luma of every color moves as the grays' does: linearly, regardless of the saturation
    contrast = np.diff((jitter(GRAYS[100:160], share, seed) @ LUMA).ravel()).mean()
    expected = out[0] + contrast * (image @ LUMA - 128)
    np.testing.assert_allclose(out, expected, atol=2.5)
    assert abs(step - contrast) <= 1


def test_brightness_contrast_and_saturation_all_vary():
    red = np.array([[[168, 108, 108]], [[118, 118, 118]], [[138, 138, 138]]], np.uint8)
    out = np.array([jitter(red, 0.5, seed) for seed in range(100)]).astype(float)
    brightness = out[:, 1:, 0, 0].mean(1)
    contrast = (out[:, 2, 0, 0] - out[:, 1, 0, 0]) / 20
    saturation = (out[:, 0, 0, 0] - out[:, 0, 0, 1]) / 60 / contrast
    assert brightness.min() < 128 - 40 < 128 + 40 < brightness.max()
    for factor in (contrast, saturation):
        assert 0.45 <= factor.min() < 0.65
        assert 1.35 < factor.max() <= 1.6


def test_what_a_warp_shows_outside_the_image_stays_black(tiny_crowd):
    schema = load_schema("datasets/synthetic.yaml")
    records = load_records(schema, "train", str(tiny_crowd))
    wide = Augmentation(scale=(3, 3), translate=0, rotation=0, flip=0, color=0.4)
    dataset = TrainDataset(records, schema.flip_index, wide, 64, (4,), reduced_decode=False)
    image = dataset.sample(SampleKey(0, 0, 1)).image
    assert (image[:16] == 0).all()
    assert image[24:40, 24:40].any()
