import json
from dataclasses import replace

import numpy as np
import plain_losses
import pytest
import torch

from coupled_embedding.builders import build_criterion
from coupled_embedding.config import load_config
from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.data.targets import Targets
from coupled_embedding.losses.criterion import WEIGHTS, PoseCriterion
from coupled_embedding.losses.heatmap import HeatmapLoss
from coupled_embedding.losses.ramp import Ramp
from coupled_embedding.losses.scale_maps import ScaleMapLoss

TERMS = {"heatmap": "hms_loss", "pull": "pull_loss", "push": "push_loss", "coupling": "scale_loss"}


def decoded_joints(encoded, shape):
    """Return cells and visibility of (B, M, K, 2): k·h·w + y·w + x and visible, in any slot."""
    cells = torch.zeros((*encoded.shape[:2], shape[0], 2), dtype=torch.long)
    visible = torch.zeros((*encoded.shape[:2], shape[0]), dtype=torch.bool)
    for b, m, slot in np.argwhere(encoded[..., 1] > 0):
        k, y, x = np.unravel_index(encoded[b, m, slot, 0], shape)
        cells[b, m, k] = torch.tensor([int(x), int(y)])
        visible[b, m, k] = True
    return cells, visible


class Recording:
    """One ``losses_*.npz`` as our maps and targets."""

    def __init__(self, path):
        self.npz = np.load(path)
        self.resolutions = 2 if "higher" in path.stem else 1
        self.focal = "focal" in path.stem
        self.weights = json.loads(str(self.npz["loss_weights"]))

    def tensor(self, name):
        return torch.from_numpy(self.npz[name])

    def tensors(self, name):
        return tuple(self.tensor(f"{name}_{i}") for i in range(self.resolutions))

    def output(self):
        heatmaps = tuple(h.requires_grad_() for h in self.tensors("pred_heatmaps"))
        return PoseOutput(heatmaps, self.tensor("pred_tagmaps").requires_grad_())

    def targets(self):
        _, joints, height, width, _ = self.npz["pred_tagmaps"].shape
        cells, visible = decoded_joints(self.npz["joints"], (joints, height, width))
        scales = self.tensor("box_scales")
        return Targets(self.tensors("target_heatmaps"), self.tensors("mask"), cells, visible, scales)

    def criterion(self, **weights):
        named = {name: self.weights[recorded] for name, recorded in TERMS.items()}
        return PoseCriterion(HeatmapLoss(float(self.npz["beta"]), True, self.focal), named | weights)


@pytest.fixture
def recording(losses_case):
    return Recording(losses_case)


def assert_near(own, recorded):
    """Compare by 1e-6 of the largest; nothing and zeros are the same."""
    if own is None or recorded.size == 0:
        assert own is None or own.abs().max() == 0
        assert recorded.size == 0 or np.abs(recorded).max() == 0
        return
    assert np.abs(own.numpy() - recorded).max() <= 1e-6 * np.abs(recorded).max()


@pytest.mark.reference
def test_weighted_terms_equal_the_recorded_ones(recording):
    losses = recording.criterion()(recording.output(), recording.targets())
    for name, recorded in TERMS.items():
        assert losses[name].item() == pytest.approx(float(recording.npz[recorded]), rel=1e-6), name
    assert losses["total"].item() == pytest.approx(sum(float(recording.npz[r]) for r in TERMS.values()), rel=1e-6)


@pytest.mark.reference
def test_gradients_of_the_total_equal_the_recorded_ones(recording):
    output = recording.output()
    recording.criterion()(output, recording.targets())["total"].backward()
    for i, heatmap in enumerate(output.heatmaps):
        assert_near(heatmap.grad, recording.npz[f"grad_heatmaps_{i}"])
    assert_near(output.tags.grad, recording.npz["grad_tagmaps"])


@pytest.mark.reference
@pytest.mark.parametrize(("term", "recorded"), [("pull", "pull"), ("push", "push"), ("coupling", "scale")])
def test_each_unweighted_term_and_its_gradient_equal_the_recorded_ones(recording, term, recorded):
    output = recording.output()
    criterion = recording.criterion(pull=1.0, push=1.0, coupling=1.0)
    value = criterion(output, recording.targets())[term]
    assert value.item() == pytest.approx(float(recording.npz[f"unweighted_{recorded}"]), rel=1e-6)
    value.backward()
    assert_near(output.tags.grad, recording.npz[f"grad_unweighted_{recorded}"])


# ---- HigherHRNet's loss: squared errors at both resolutions, scalar tags


@pytest.mark.reference
def test_higherhrnets_terms_and_gradients_equal_the_recorded_ones(baseline_losses_case, checkout):
    npz = np.load(baseline_losses_case)
    criterion = build_criterion(load_config(checkout / "config/coco/ae_hrhrnet_w32_512.yaml"))
    outputs = [torch.from_numpy(npz[f"output_{i}"]).requires_grad_() for i in range(2)]
    low, tags = outputs[0].chunk(2, 1)
    joints, height, width = low.shape[1:]
    cells, visible = decoded_joints(npz["joints"], (joints, height, width))
    heatmaps, masks = ([torch.from_numpy(npz[f"{name}_{i}"]) for i in range(2)] for name in ("heatmaps", "mask"))
    targets = Targets(tuple(heatmaps), tuple(masks), cells, visible, torch.ones(visible.shape[:2]))
    losses = criterion(PoseOutput((low, outputs[1]), tags[..., None]), targets)
    recorded = {"heatmap": npz["heatmap_loss_0"] + npz["heatmap_loss_1"], "pull": npz["pull"], "push": npz["push"]}
    for name, per_image in recorded.items():
        assert losses[name].item() == pytest.approx(per_image.mean(), rel=1e-6), name
    assert losses["total"].item() == pytest.approx(float(npz["total"]), rel=1e-6)
    losses["total"].backward()
    for i, output in enumerate(outputs):
        assert_near(output.grad, npz[f"grad_{i}"])


# ---- without recordings


def example(seed=0, batch=2, people=3, joints=3, size=4, dim=8):
    random = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(*shape, generator=random)

    shapes = [(batch, joints, size, size), (batch, joints, 2 * size, 2 * size)]
    heatmaps = tuple(rand(*shape).requires_grad_() for shape in shapes)
    output = PoseOutput(heatmaps, (rand(batch, joints, size, size, dim) - 0.5).requires_grad_())
    cells = torch.randint(size, (batch, people, joints, 2), generator=random)
    masks = tuple(torch.ones(batch, *shape[2:]) for shape in shapes)
    targets = Targets(
        tuple(rand(*s) for s in shapes), masks, cells, rand(batch, people, joints) < 0.7, rand(batch, people)
    )
    return output, targets


def stacked(losses):
    return torch.stack(list(losses.values())).detach()


def test_total_is_the_sum_of_the_weighted_terms():
    output, targets = example()
    weights = {"heatmap": 2.0, "pull": 3.0, "push": 5.0, "coupling": 7.0}
    criterion = PoseCriterion(HeatmapLoss(), weights)
    terms, losses = criterion.terms(output, targets), criterion(output, targets)
    assert list(losses) == ["total", *weights]
    for name, weight in weights.items():
        assert losses[name].item() == pytest.approx(weight * terms[name].item())
    assert losses["total"].item() == pytest.approx(sum(losses[name].item() for name in weights))


def test_terms_equal_the_plain_ones():
    output, targets = example()
    terms = PoseCriterion(HeatmapLoss()).terms(output, targets)
    labels = targets.cells, targets.visible, targets.scales
    plain = plain_losses.losses(output.heatmaps, output.tags, targets.heatmaps, targets.masks, *labels, 0.4)
    assert list(terms) == list(plain)
    for name, term in terms.items():
        assert term.item() == pytest.approx(plain[name].item(), rel=1e-5), name


def test_each_stage_of_a_stacked_network_counts():
    (output, targets), (other, _) = example(), example(seed=1)
    criterion = PoseCriterion(HeatmapLoss())
    together = criterion(replace(output, aux_outputs=(other, output)), targets)
    expected = 2 * stacked(criterion(output, targets)) + stacked(criterion(other, targets))
    torch.testing.assert_close(stacked(together), expected)
    together["total"].backward()
    assert all(tensor.grad.abs().sum() > 0 for tensor in (*other.heatmaps, other.tags))


@pytest.mark.parametrize("off", ["pull", "push", "coupling"])
def test_weight_zero_switches_a_term_off(off):
    output, targets = example()
    losses = PoseCriterion(HeatmapLoss(), {name: float(name != off) for name in TERMS})(output, targets)
    assert losses[off] == 0
    assert all(losses[name] > 0 for name in TERMS if name != off)
    (gradient,) = torch.autograd.grad(losses[off], output.tags)
    assert (gradient == 0).all()


@pytest.mark.parametrize("empty", [0, 1])
def test_gradients_are_finite_for_images_without_people(empty):
    output, targets = example()
    visible = targets.visible.clone()
    visible[empty:] = False
    PoseCriterion(HeatmapLoss())(output, replace(targets, visible=visible))["total"].backward()
    for tensor in (*output.heatmaps, output.tags):
        assert tensor.grad.isfinite().all()
    assert (output.tags.grad[empty:] == 0).all()


def test_bf16_maps_under_autocast_give_float32_losses():
    output, targets = example()
    half = PoseOutput(tuple(h.detach().bfloat16() for h in output.heatmaps), output.tags.detach().bfloat16())
    lifted = PoseOutput(tuple(h.float() for h in half.heatmaps), half.tags.float())
    criterion = PoseCriterion(HeatmapLoss())
    expected = criterion(lifted, targets)
    with torch.autocast("cpu", torch.bfloat16):
        losses = criterion(half, targets)
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    assert stacked(losses).tolist() == stacked(expected).tolist()


def test_pull_ramp_is_flat_then_rises_to_one():
    ramp = Ramp(100, 300, 0.25)
    assert [ramp(step) for step in (0, 99, 100, 200, 250, 300, 10**6)] == [0.25, 0.25, 0.25, 0.625, 0.8125, 1, 1]


def test_no_ramp_is_one_from_the_first_step():
    assert [Ramp()(step) for step in (0, 1, 1000)] == [1, 1, 1]
    assert [Ramp(5, 5, 0.5)(step) for step in (0, 4, 5, 6)] == [0.5, 0.5, 1, 1]


def test_the_ramp_weighs_the_pull_alone():
    output, targets = example()
    criterion = PoseCriterion(HeatmapLoss(), pull_ramp=Ramp(10, 20, 0.5))
    early, late = criterion(output, targets, 0), criterion(output, targets, 20)
    assert early["pull"].item() == pytest.approx(late["pull"].item() / 2)
    assert all(early[name] == late[name] for name in ("heatmap", "push", "coupling"))


def test_build_criterion_reads_every_loss_option():
    values = {"HEATMAP_WEIGHT": 2.0, "PULL_WEIGHT": 0.3, "PUSH_WEIGHT": 0.4, "COUPLING_WEIGHT": 0.5, "BETA": 0.6}
    values |= {"SCALE_ADAPTED": False, "FOCAL": False}
    values |= {"PULL_RAMP_START": 3, "PULL_RAMP_END": 9, "PULL_RAMP_FACTOR": 0.2}
    overrides = [text for key, value in values.items() for text in (f"LOSS.{key}", str(value))]
    criterion = build_criterion(load_config(None, overrides))
    assert criterion.weights == {"heatmap": 2.0, "pull": 0.3, "push": 0.4, "coupling": 0.5}
    assert criterion.ramps["pull"] == Ramp(3, 9, 0.2)
    loss = criterion.heatmap_loss
    assert (loss.beta, loss.scale_adapted, loss.focal) == (0.6, False, False)


def test_default_config_is_the_papers_recipe():
    criterion = build_criterion(load_config())
    assert criterion.weights == {"heatmap": 1.0, "pull": 1e-3, "push": 1e-3, "coupling": 1e-4}
    loss = criterion.heatmap_loss
    assert (loss.beta, loss.scale_adapted, loss.focal) == (0.4, True, True)
    assert criterion.ramps["pull"](0) == 1


def test_scale_maps_take_the_place_of_the_tags():
    output, targets = example()
    learned = tuple((0.1 * torch.randn(h.shape)).requires_grad_() for h in output.heatmaps)
    criterion = PoseCriterion(ScaleMapLoss(), WEIGHTS | {"heatmap": 2.0})
    losses = criterion(replace(output, scale_maps=learned), targets)
    expected = ScaleMapLoss()(output.heatmaps, targets.heatmaps, targets.masks, learned)
    assert losses["heatmap"].item() == pytest.approx(2 * expected.item())
    losses["total"].backward()
    assert all(scale_map.grad.abs().sum() > 0 for scale_map in learned)
    # a criterion without them ignores them
    plain = PoseCriterion(HeatmapLoss())
    assert stacked(plain(output, targets)).equal(stacked(plain(replace(output, scale_maps=learned), targets)))


@pytest.mark.parametrize("focal", [True, False])
def test_build_criterion_takes_scale_maps_where_the_network_has_them(focal):
    options = ["MODEL.SCALE_MAPS", "True", "LOSS.SCALE_ADAPTED", "False", "LOSS.FOCAL", str(focal)]
    loss = build_criterion(load_config(None, options)).heatmap_loss
    assert isinstance(loss, ScaleMapLoss)
    assert (loss.weighted, loss.penalty_weight) == (focal, 1)


def test_a_term_without_a_weight_is_an_error():
    criterion = PoseCriterion(HeatmapLoss(), {"heatmap": 1.0, "pull": 1.0, "push": 1.0})
    output, targets = example()
    with pytest.raises(ValueError, match=r"loss terms \['coupling', 'heatmap', 'pull', 'push'\], but weights"):
        criterion(output, targets)
