"""Convolutional pose machines: sizes, what each stage sees, and how far."""

import math

import pytest
import torch
from torch import nn

from coupled_embedding.builders import build_model
from coupled_embedding.config import load_config
from coupled_embedding.networks.cpm import ConvolutionalPoseMachine, CPMSettings, center_map
from coupled_embedding.networks.folding import fold_batch_norm
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.utils.errors import ConfigError

OPTIONS = ["MODEL.BACKBONE", "cpm", "MODEL.HEAD", "plain"]
NORM = ["MODEL.CPM_NORM", "batch"]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network_of(num_joints=3, tag_dim=1, stages=3, width=8, **options):
    torch.manual_seed(0)
    return PoseNetwork(num_joints, tag_dim, CPMSettings(stages, width, **options), "plain").eval()


def reach(machine: ConvolutionalPoseMachine, stage: int, side: int) -> int:
    """Input pixels across that change the middle cell of a stage's map, by its gradient."""
    for layer in machine.modules():
        if isinstance(layer, nn.Conv2d):  # positive weights and inputs: no ReLU cuts a path
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
    for pool in [m for m in machine.modules() if isinstance(m, nn.MaxPool2d)]:
        # of equal values the maximum has a gradient at one place alone; a mean has it at all
        pool.forward = nn.AvgPool2d(pool.kernel_size, pool.stride, ceil_mode=True).forward
    image = torch.ones(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    maps = machine.double()(image)[stage]
    middle = maps.shape[-1] // 2
    maps[0, 0, middle, middle].backward()
    columns = image.grad[0].abs().sum((0, 1)).nonzero()
    return int(columns.max() - columns.min()) + 1


# by the paper 160 and 400 pixels; each 3x3 pooling sees one cell more than a 2x2 one: 1 + 2 + 4 pixels
@pytest.mark.parametrize(("pool", "stage", "side", "pixels"), [(2, 0, 192, 160), (3, 0, 192, 167), (2, 1, 416, 400)])
def test_the_receptive_field_is_the_papers(pool, stage, side, pixels):
    machine = CPMSettings(stage + 1, 1, pool=pool).build(1)
    assert reach(machine, stage, side) == pixels


def test_layers_are_the_released_networks():
    state = CPMSettings().build(15).state_dict()
    shapes = {name.removesuffix(".weight"): tuple(value.shape) for name, value in state.items() if value.ndim == 4}
    first = [shape for name, shape in shapes.items() if name.startswith("first.")]
    assert first == [
        (128, 3, 9, 9), (128, 128, 9, 9), (128, 128, 9, 9), (32, 128, 5, 5), (512, 32, 9, 9), (512, 512, 1, 1),
        (15, 512, 1, 1),
    ]  # fmt: skip
    assert [shape for name, shape in shapes.items() if name.startswith("shared.")] == first[:3]
    for stage in range(5):
        assert shapes[f"features.{stage}.0"] == (32, 128, 5, 5)
        assert [shape for name, shape in shapes.items() if name.startswith(f"refiners.{stage}.")] == [
            (128, 32 + 15 + 1, 11, 11), (128, 128, 11, 11), (128, 128, 11, 11), (128, 128, 1, 1), (15, 128, 1, 1),
        ]  # fmt: skip
    assert "features.5.0.weight" not in state


@pytest.mark.parametrize("size", [(64, 64), (40, 72), (104, 368)])
@pytest.mark.parametrize("stages", [1, 3])
def test_every_stage_outputs_maps_at_stride_8(size, stages):
    network = network_of(stages=stages)
    with torch.no_grad():
        output = network(random(2, 3, *size))
    assert (network.strides, network.divisor) == ((8,), 8)
    outputs = [*output.aux_outputs, output]
    assert len(outputs) == stages
    for stage in outputs:
        assert [h.shape for h in stage.heatmaps] == [(2, 3, size[0] // 8, size[1] // 8)]
        assert stage.tags.shape == (2, 3, size[0] // 8, size[1] // 8, 1)


def test_sides_of_a_pose_machine_are_multiples_of_8():
    with pytest.raises(ValueError, match="multiples of 8 pixels, got 60×64"):
        network_of()(random(1, 3, 64, 60))


def test_a_stage_sees_the_maps_before_it_and_no_later_ones():
    network, image = network_of(), random(1, 3, 64, 64)
    with torch.no_grad():
        before = network.backbone(image)
        network.backbone.refiners[0][-1].bias += 1
        after = network.backbone(image)
    assert torch.equal(after[0], before[0])
    torch.testing.assert_close(after[1], before[1] + 1)
    assert not torch.allclose(after[2], before[2], atol=1e-6)


def test_every_parameter_gets_a_gradient_from_the_stages_together():
    network = network_of().train()
    nn.init.normal_(network.backbone.refiners[-1][-1].weight)
    output = network(random(2, 3, 64, 64))
    sum((stage.tags**2).sum() + (stage.heatmaps[0] ** 2).sum() for stage in (*output.aux_outputs, output)).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 8)])
def test_the_center_map_is_a_gaussian_of_21_pixels_at_the_inputs_middle(height, width):
    found = center_map(torch.empty(2, 7, height, width), 21)
    assert found.shape == (2, 1, height, width)
    for row in range(height):
        for column in range(width):
            # the middle of a cell's 8 pixels, and of the input's pixels
            x, y = 8 * column + 3.5 - (8 * width - 1) / 2, 8 * row + 3.5 - (8 * height - 1) / 2
            assert float(found[1, 0, row, column]) == pytest.approx(math.exp(-(x * x + y * y) / (2 * 21**2)), rel=1e-6)


def test_later_stages_see_the_center_map():
    near, far = (network_of(center_sigma=sigma) for sigma in (21.0, 1000.0))
    far.load_state_dict(near.state_dict())
    image = random(1, 3, 64, 64)
    with torch.no_grad():
        (first, *later), (other_first, *others) = (network.backbone(image) for network in (near, far))
    assert torch.equal(first, other_first)
    assert not torch.equal(later[0], others[0])


def test_batch_norm_is_an_option_and_can_be_folded(fill_by_name):
    plain, normed = (build_model(load_config(None, [*OPTIONS, "MODEL.WIDTH", "8", *o]), 2) for o in ([], NORM))
    assert not [m for m in plain.modules() if isinstance(m, nn.BatchNorm2d)]
    network = fill_by_name(normed)
    folded = fold_batch_norm(network)
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    image = random(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = network(image).heatmaps[0], folded(image).heatmaps[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=float(1e-5 * expected.std()))


def test_build_model_reads_stages_and_width():
    cfg = load_config(None, [*OPTIONS, "MODEL.STACKS", "2", "MODEL.WIDTH", "16", "DATASET.INPUT_SIZE", "368"])
    network = build_model(cfg, 4)
    assert len(network.backbone.output_layers()) == 2
    assert network.backbone.first[0].weight.shape == (16, 3, 9, 9)
    ends = network.input_and_output_layers()
    assert [layer.in_channels for layer in ends[:2]] == [3, 3]
    assert {layer.out_channels for layer in ends[2:]} == {4 * (1 + cfg.MODEL.TAG_DIM)}


def test_368_pixels_are_for_pose_machines_alone():
    with pytest.raises(ConfigError, match=r"DATASET.INPUT_SIZE: 368 is invalid; expected a multiple of 32"):
        load_config(None, ["DATASET.INPUT_SIZE", "368"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["MODEL.HEAD", "higher"], "MODEL.HEAD: 'higher' is invalid with MODEL.BACKBONE cpm"),
        (["MODEL.PRETRAINED", "x.pth"], "MODEL.PRETRAINED: x.pth is for HRNet; with MODEL.BACKBONE cpm give ''"),
        (["MODEL.SCALE_MAPS", "True", "LOSS.SCALE_ADAPTED", "False"], "MODEL.SCALE_MAPS: True is invalid with"),
    ],
)
def test_options_of_other_networks_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, [*OPTIONS, *change])
