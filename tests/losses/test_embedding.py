import math

import plain_losses
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coupled_embedding.losses.embedding import EmbeddingLoss, mean_tags, tags_at_joints

seeds = st.integers(0, 2**31)


def example(seed, batch=2, people=4, joints=3, height=4, width=5, dim=3, share=0.7):
    """Random tags in float64, people with random joints; with ``share`` 0 nobody has any."""
    random = torch.Generator().manual_seed(seed)
    tags = torch.randn(batch, joints, height, width, dim, generator=random, dtype=torch.float64)
    x = torch.randint(width, (batch, people, joints), generator=random)
    y = torch.randint(height, (batch, people, joints), generator=random)
    visible = torch.rand(batch, people, joints, generator=random) < share
    scales = 1.2 * torch.rand(batch, people, generator=random, dtype=torch.float64)
    return tags, torch.stack((x, y), -1), visible, scales


def terms(*inputs):
    return list(EmbeddingLoss()(*inputs).values())


def values(*inputs):
    return [term.item() for term in terms(*inputs)]


def test_terms_are_named():
    assert list(EmbeddingLoss()(*example(0))) == ["pull", "push", "coupling"]


@given(seeds, st.integers(1, 3), st.integers(0, 5), st.integers(1, 4), st.integers(1, 9), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_terms_equal_plain_loops(seed, batch, people, joints, dim, share):
    inputs = example(seed, batch, people, joints, dim=dim, share=share)
    expected = [term.item() for term in plain_losses.embedding_losses(*inputs).values()]
    assert values(*inputs) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_terms_of_two_people_by_hand():
    tags = torch.zeros(1, 2, 1, 4, 2)
    tags[0, :, 0, 0] = torch.tensor([[1.0, 0.0], [3.0, 0.0]])  # person 0: mean (2, 0)
    tags[0, 0, 0, 3] = torch.tensor([2.0, 1.0])  # person 1: one joint
    cells = torch.tensor([[[[0, 0], [0, 0]], [[3, 0], [0, 0]]]])
    visible = torch.tensor([[[True, True], [True, False]]])
    pull, push, coupling = values(tags, cells, visible, torch.tensor([[0.5, 0.75]]))
    assert pull == pytest.approx((1.0 + 0.0) / 2)
    assert push == pytest.approx(0.5 * math.exp(-1))
    # person 0 wants both bins alike, person 1 all but only the second one
    assert coupling == pytest.approx((1 - math.sqrt(0.5) + 1 - 1 / math.sqrt(5)) / 2, rel=1e-5)


@pytest.mark.parametrize("people", [0, 3])
def test_no_people_give_zero_terms_and_zero_gradients(people):
    tags, cells, visible, scales = example(0, people=people, share=0.0)
    tags.requires_grad_()
    result = terms(tags, cells, visible, scales)
    assert [term.item() for term in result] == [0, 0, 0]
    sum(result).backward()
    assert (tags.grad == 0).all()


def test_one_person_is_not_pushed():
    tags, cells, visible, scales = example(1, batch=1, people=1, share=1.0)
    pull, push, coupling = values(tags, cells, visible, scales)
    assert push == 0
    assert pull > 0
    assert 0 < coupling < 1


def test_an_image_without_people_counts_zero_in_the_mean():
    tags, cells, visible, scales = example(2, batch=1, share=1.0)
    alone = values(tags, cells, visible, scales)
    doubled = [torch.cat((t, t)) for t in (tags, cells, visible, scales)]
    doubled[2][1] = False
    assert values(*doubled) == pytest.approx([value / 2 for value in alone])


def test_people_with_equal_tags_pay_the_whole_push():
    tags, cells, visible, scales = example(3, batch=1, share=1.0)
    pull, push, _ = values(torch.ones_like(tags), cells, visible, scales)
    assert (pull, push) == (0, 0.5)


def test_coupling_vanishes_where_the_mean_tag_is_the_wanted_one_whatever_its_signs():
    scale, dim = 0.3, 4
    wanted = 1 / (scale - (torch.arange(dim) + 0.5) / dim).abs()
    tags = (wanted * torch.tensor([1, -1, -1, 1]) * 7).view(1, 1, 1, 1, dim)
    one = torch.zeros(1, 1, 1, 2, dtype=torch.long), torch.ones(1, 1, 1, dtype=torch.bool), torch.tensor([[scale]])
    assert values(tags, *one)[2] == pytest.approx(0, abs=1e-6)
    assert values(tags.flip(-1), *one)[2] > 0.1


def test_a_scale_on_a_bin_center_stays_finite():
    tags, cells, visible, _ = (v.float() if v.is_floating_point() else v for v in example(4, dim=8))
    tags.requires_grad_()
    scales = torch.full(cells.shape[:2], 0.5 / 8)
    coupling = EmbeddingLoss()(tags, cells, visible, scales)["coupling"]
    coupling.backward()
    assert coupling.isfinite()
    assert tags.grad.isfinite().all()


@given(seeds, st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_empty_rows_change_nothing(seed, extra):
    tags, cells, visible, scales = example(seed)
    cells_more = torch.cat((cells, torch.zeros(2, extra, 3, 2, dtype=torch.long)), 1)
    visible_more = torch.cat((visible, torch.zeros(2, extra, 3, dtype=torch.bool)), 1)
    scales_more = torch.cat((scales, torch.zeros(2, extra, dtype=torch.float64)), 1)
    padded = values(tags, cells_more, visible_more, scales_more)
    assert padded == pytest.approx(values(tags, cells, visible, scales), rel=1e-12)


@given(seeds, st.permutations(range(4)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_people_does_not_matter(seed, order):
    tags, cells, visible, scales = example(seed)
    permuted = values(tags, cells[:, order], visible[:, order], scales[:, order])
    assert permuted == pytest.approx(values(tags, cells, visible, scales), rel=1e-12)


def test_cells_and_scales_of_invisible_joints_and_people_do_not_matter():
    tags, cells, visible, scales = example(5)
    visible[0, 1] = False
    before = values(tags, cells, visible, scales)
    cells[~visible] = 0
    scales[0, 1] = 99.0
    assert values(tags, cells, visible, scales) == before


def test_with_one_dimension_there_is_nothing_to_couple():
    tags, cells, visible, scales = example(6, dim=1)
    pull, push, coupling = values(tags, cells, visible, scales)
    assert coupling == pytest.approx(0, abs=1e-12)
    assert pull > 0
    assert push > 0


@pytest.mark.parametrize("term", [0, 1, 2])
def test_gradients_are_exact(term):
    tags, cells, visible, scales = example(7, dim=2)
    visible[1] = False  # an image without people
    visible[0, 0] = False  # a person without joints
    tags.requires_grad_()
    assert torch.autograd.gradcheck(lambda t: terms(t, cells, visible, scales)[term], (tags,))


def test_gradients_stay_finite_where_all_tags_are_zero():
    tags, cells, visible, scales = (v.float() if v.is_floating_point() else v for v in example(8))
    tags = torch.zeros_like(tags, requires_grad=True)
    sum(terms(tags, cells, visible, scales)).backward()
    assert tags.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_tags_are_lifted(dtype):
    tags, cells, visible, scales = example(9)
    result = terms(tags.to(dtype), cells, visible, scales)
    assert all(term.dtype == torch.float32 for term in result)
    assert values(tags.to(dtype), cells, visible, scales) == values(tags.to(dtype).float(), cells, visible, scales)


def test_tags_at_joints_reads_x_then_y_of_each_joints_own_map():
    tags = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5, 1)
    cells = torch.tensor([[[[4, 0], [0, 3], [1, 2]]], [[[2, 1], [3, 3], [0, 0]]]])
    read = tags_at_joints(tags, cells)
    assert read.shape == (2, 1, 3, 1)
    assert read.flatten().tolist() == [4, 20 + 15, 40 + 11, 60 + 7, 80 + 18, 100]


def test_mean_tags_of_a_person_without_joints_are_zero():
    joint_tags = torch.tensor([[[[2.0, 4.0], [4.0, 0.0]], [[1.0, 1.0], [5.0, 5.0]]]])
    visible = torch.tensor([[[True, True], [False, False]]])
    assert mean_tags(joint_tags, visible).tolist() == [[[3.0, 2.0], [0.0, 0.0]]]
