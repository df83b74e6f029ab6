"""The optional terms against loops over images, people and joints."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coupled_embedding.builders import build_criterion
from coupled_embedding.config import load_config
from coupled_embedding.losses.embedding import EmbeddingLoss
from coupled_embedding.losses.optional import OPTIONAL_TERMS
from coupled_embedding.utils.errors import ConfigError

UNITS = 0.25
TERMS = list(OPTIONAL_TERMS)


def example(seed, batch=2, people=4, joints=3, height=5, width=6, dim=3, share=0.7):
    """Random tags of `dim` dimensions and two of places, in float64."""
    random = torch.Generator().manual_seed(seed)
    tags = torch.randn(batch, joints, height, width, dim + 2, generator=random, dtype=torch.float64)
    x = torch.randint(width, (batch, people, joints), generator=random)
    y = torch.randint(height, (batch, people, joints), generator=random)
    visible = torch.rand(batch, people, joints, generator=random) < share
    scales = 0.3 + torch.rand(batch, people, generator=random, dtype=torch.float64)
    return tags, torch.stack((x, y), -1), visible, scales


def found(inputs, *confidence):
    terms = EmbeddingLoss(2, TERMS, UNITS)(*inputs, *confidence)
    return {name: terms[name].item() for name in TERMS}


def persons(tags, cells, visible):
    """Yield by image a list of people: (number, [(tag, place, cell), ...] of the visible joints)."""
    for image in range(len(tags)):
        people = []
        for person in range(cells.shape[1]):
            joints = []
            for joint in range(cells.shape[2]):
                if visible[image, person, joint]:
                    x, y = cells[image, person, joint].tolist()
                    *tag, place_x, place_y = tags[image, joint, y, x].tolist()
                    joints.append((tag, (place_x / UNITS, place_y / UNITS), (x, y)))
            if joints:
                people.append((person, joints))
        yield people


def mean(vectors):
    return [sum(column) / len(vectors) for column in zip(*vectors, strict=True)]


def average(values):
    return sum(values) / len(values) if values else 0.0


def plain(tags, cells, visible, scales):
    images = list(persons(tags, cells, visible))
    side, dims = max(tags.shape[2:4]), tags.shape[-1] - 2
    centers, contrasts, deviations, freedom = [], [], [], 0
    for image, people in enumerate(images):
        means = [mean([tag for tag, _, _ in joints]) for _, joints in people]
        of_center, of_contrast = [], []
        for own, (person, joints) in enumerate(people):
            middle = mean([cell for _, _, cell in joints])
            size = max(scales[image, person].item() * side, 1)
            errors = [math.dist(place, middle) / size for _, place, _ in joints]
            of_center.append(average([math.sqrt(e * e + 1e-6) - 1e-3 for e in errors]))
            likely = [[math.exp(-(math.dist(tag, m) ** 2)) for m in means] for tag, _, _ in joints]
            of_contrast.append(average([-math.log(values[own] / sum(values)) for values in likely]))
        centers.append(average(of_center))
        contrasts.append(average(of_contrast))
        if people:
            middle = mean(means)
            deviations += [[a - b for a, b in zip(m, middle, strict=True)] for m in means]
            freedom += len(people) - 1
    cov = [[sum(d[i] * d[j] for d in deviations) / max(freedom, 1) for j in range(dims)] for i in range(dims)]
    spread = [math.sqrt(cov[i][i] + 1e-4) for i in range(dims)]
    pairs = [(cov[i][j] / spread[i] / spread[j]) ** 2 for i in range(dims) for j in range(dims) if i != j]
    return {
        "center": average(centers),
        "contrast": average(contrasts),
        "variance": average([max(1 - value, 0) for value in spread]),
        "correlation": average(pairs),
    }


@given(
    st.integers(0, 2**31), st.integers(1, 3), st.integers(0, 5), st.integers(1, 4), st.integers(1, 5), st.floats(0, 1)
)
@settings(max_examples=60, deadline=None)
def test_terms_equal_plain_loops(seed, batch, people, joints, dim, share):
    inputs = example(seed, batch, people, joints, dim=dim, share=share)
    assert found(inputs) == pytest.approx(plain(*inputs), rel=1e-6, abs=1e-9)


def test_confidence_of_ones_and_zeros_is_visibility():
    tags, cells, visible, scales = example(3)
    everything = torch.ones_like(visible)
    by_confidence = found((tags, cells, everything, scales), visible.double())
    assert by_confidence == pytest.approx(found((tags, cells, visible, scales)), rel=1e-9)


def test_places_that_point_at_the_centers_cost_nothing_and_are_not_pulled():
    tags, cells, visible, scales = example(0, batch=1, people=2, joints=2, share=1.0)
    tags[:] = 0
    cells[0] = torch.tensor([[[0, 0], [4, 2]], [[1, 4], [5, 4]]])
    for person, center in enumerate(((2.0, 1.0), (3.0, 4.0))):
        for joint in range(2):
            x, y = cells[0, person, joint]
            tags[0, joint, y, x, -2:] = torch.tensor(center) * UNITS
    terms = EmbeddingLoss(2, ["center"], UNITS)(tags, cells, visible, scales)
    assert terms["center"].item() == pytest.approx(0, abs=1e-9)
    tags[0, 0, 0, 0, -2] += 2 * UNITS  # one joint of four points two cells aside
    terms = EmbeddingLoss(2, ["center"], UNITS)(tags, cells, visible, scales)
    assert terms["center"].item() == pytest.approx(2 / (scales[0, 0] * 6).item() / 4, abs=1e-3)
    assert terms["pull"].item() == 0
    assert EmbeddingLoss(2)(tags, cells, visible, scales)["pull"].item() > 0


@pytest.mark.parametrize("term", TERMS)
def test_gradients_equal_differences(term):
    tags, cells, visible, scales = example(5, batch=2, people=3, joints=2, height=3, width=3)
    tags.requires_grad_()
    loss = EmbeddingLoss(2, [term], UNITS)
    assert torch.autograd.gradcheck(lambda t: loss(t, cells, visible, scales)[term], (tags,))


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("people", [0, 1, 4])
def test_gradients_are_finite_where_all_tags_are_equal(term, people):
    tags, cells, visible, scales = example(1, people=people)
    tags = torch.zeros_like(tags, requires_grad=True)
    EmbeddingLoss(2, [term], UNITS)(tags, cells, visible, scales)[term].backward()
    assert tags.grad.isfinite().all()


def test_options_name_the_terms_and_switch_them():
    config = "config/synthetic/ce_small.yaml"
    assert not build_criterion(load_config(config, [])).embedding_loss.optional
    for name in TERMS:
        options = [f"LOSS.{name.upper()}_WEIGHT", "0.5", "MODEL.SPATIAL_TAGS", "0.25"]
        criterion = build_criterion(load_config(config, options))
        assert criterion.embedding_loss.optional == (name,)
        assert criterion.weights[name] == 0.5
        assert criterion.embedding_loss.units == 0.25


def test_centers_need_places():
    with pytest.raises(ConfigError, match=r"LOSS.CENTER_WEIGHT: needs MODEL.SPATIAL_TAGS"):
        load_config("config/synthetic/ce_small.yaml", ["LOSS.CENTER_WEIGHT", "0.1", "MODEL.SPATIAL_TAGS", "0"])
