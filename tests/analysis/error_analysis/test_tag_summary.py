"""Statistics of tags, against loops and known cases."""

import math

import numpy as np
import pytest

from coupled_embedding.analysis.error_analysis.tags import (
    JointTags,
    PersonTags,
    encoded_scales,
    hoyer_sparsity,
    person_tags,
    summarize_tags,
    within_image_covariance,
)


def images_of(means: list[np.ndarray]) -> list[PersonTags]:
    return [PersonTags(m, np.linspace(0.1, 0.5, len(m))) for m in means]


def test_covariance_is_about_each_images_mean() -> None:
    random = np.random.default_rng(0)
    crowds = [random.normal(size=(n, 3)) + 100 * random.normal(size=3) for n in (2, 5, 3)]
    expected, freedom = np.zeros((3, 3)), 0
    for means in crowds:
        center = sum(means) / len(means)
        for mean in means:
            for i in range(3):
                for j in range(3):
                    expected[i, j] += (mean - center)[i] * (mean - center)[j]
        freedom += len(means) - 1
    np.testing.assert_allclose(within_image_covariance(crowds, 3), expected / freedom, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(within_image_covariance(crowds[1:2], 3), np.cov(crowds[1].T), rtol=1e-9)


def test_independent_dimensions_have_full_rank_and_a_line_has_rank_one() -> None:
    random = np.random.default_rng(1)
    round_ = summarize_tags(images_of([random.normal(size=(4000, 4))]), 4)
    assert round_.participation == pytest.approx(4, rel=0.01)
    assert round_.entropy_rank == pytest.approx(4, rel=0.01)
    assert round_.mean_correlation < 0.05
    line = summarize_tags(images_of([random.normal(size=(50, 1)) * (1, -2, 3, 0.5)]), 4)
    assert line.participation == pytest.approx(1)
    assert line.entropy_rank == pytest.approx(1)
    np.testing.assert_allclose(np.abs(line.correlation), 1, atol=1e-9)
    assert line.correlation[0][1] == pytest.approx(-1)
    assert line.spectrum == pytest.approx([1, 0, 0, 0], abs=1e-9)


def test_ranks_by_hand() -> None:
    # eigenvalues 2 : 1 : 1
    corners = np.array([[math.sqrt(2), 0, 0], [-math.sqrt(2), 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    summary = summarize_tags(images_of([corners]), 3)
    assert summary.spectrum == pytest.approx([0.5, 0.25, 0.25])
    assert summary.participation == pytest.approx(1 / (0.25 + 0.0625 + 0.0625))
    assert summary.entropy_rank == pytest.approx(math.exp(0.5 * math.log(2) + 0.5 * math.log(4)))


def test_a_dimension_that_never_varies_has_no_correlation() -> None:
    summary = summarize_tags(images_of([np.array([[1.0, 0.0], [2.0, 0.0]])]), 2)
    assert summary.correlation[0][0] == pytest.approx(1)
    assert all(math.isnan(summary.correlation[i][j]) for i, j in ((0, 1), (1, 0), (1, 1)))
    assert math.isnan(summary.mean_correlation)


def test_sparsity() -> None:
    tags = np.array([[0, 0, 3, 0], [1, -1, 1, 1], [3, 4, 0, 0], [0, 0, 0, 0]], float)
    np.testing.assert_allclose(hoyer_sparsity(tags), [1, 0, (2 - 7 / 5) / (2 - 1)])
    assert hoyer_sparsity(np.ones((3, 1))).size == 0
    summary = summarize_tags(images_of([np.array([[10, 0.9, -0.9, 1.0], [0.0, -5, 0.5, 0.6]])]), 4)
    assert summary.near_zero == pytest.approx(3 / 8)  # 0.9, -0.9 and 0; exactly a tenth is not near
    assert summary.magnitudes == pytest.approx([5, 2.95, 0.7, 0.8])


def test_encoded_scale_is_the_mean_of_the_bins() -> None:
    tags = np.array([[1, 0, 0, 0], [0, 0, 0, -2], [1, 0, 0, -1], [0, 0, 0, 0]], float)
    np.testing.assert_allclose(encoded_scales(tags), [0.125, 0.875, 0.5, 0])


def test_scale_fit() -> None:
    true = np.linspace(0.125, 0.875, 1000)[::-1]
    means = np.stack(((0.875 - true) / 0.75, (true - 0.125) / 0.75), 1)  # encodes 0.25 + 0.5 · …
    fit = summarize_tags([PersonTags(means, true)], 2).scale
    encoded = 0.25 * means[:, 0] + 0.75 * means[:, 1]
    assert fit.correlation == pytest.approx(1)
    assert fit.mean_error == pytest.approx(np.abs(encoded - true).mean())
    assert len(fit.people) == 334
    assert len(fit.true) == 8
    assert fit.true == sorted(fit.true)
    for low, middle, high in zip(fit.lower, fit.median, fit.upper):
        assert low < middle < high
    alone = summarize_tags([PersonTags(means[:1], true[:1])], 2).scale
    assert math.isnan(alone.correlation)
    assert len(alone.true) == 1


def test_one_dimension() -> None:
    summary = summarize_tags(images_of([np.array([[1.0], [2.0], [4.0]])]), 1)
    assert summary.correlation == [[pytest.approx(1)]]
    assert summary.participation == summary.entropy_rank == 1
    assert math.isnan(summary.hoyer)
    assert math.isnan(summary.mean_correlation)
    assert math.isnan(summary.scale.correlation)  # one dimension encodes one scale


def test_without_people_nothing_is_defined() -> None:
    for images in ([], images_of([np.zeros((0, 3))])):
        summary = summarize_tags(images, 3)
        assert (summary.people, summary.images, summary.spectrum, summary.scale) == (0, 0, [], None)
        assert math.isnan(summary.participation)
        assert math.isnan(summary.near_zero)
    one_each = summarize_tags(images_of([np.ones((1, 3)), np.ones((1, 3))]), 3)
    assert (one_each.people, one_each.images) == (2, 0)
    assert math.isnan(one_each.entropy_rank)


def test_people_without_a_present_joint_are_left_out() -> None:
    values = np.arange(12.0).reshape(2, 2, 3)
    present = np.array([[False, False], [True, True]])
    tags = person_tags(JointTags(values * present[..., None], present, 2, np.array([0.3, 0.4])))
    assert tags.means.tolist() == [[7.5, 8.5]]  # the third value is the flipped image's
    assert tags.true_scales.tolist() == [0.4]
