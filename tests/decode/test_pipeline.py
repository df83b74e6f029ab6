from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from coupled_embedding.builders import build_pipeline_options
from coupled_embedding.config import load_config
from coupled_embedding.data.geometry import resize_geometry
from coupled_embedding.data.images import MEAN, STD, normalize
from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.data.schema import load_schema
from coupled_embedding.data.test_dataset import TestBatch, warp_to_input
from coupled_embedding.decode.options import DecodeOptions
from coupled_embedding.decode.pipeline import InferencePipeline, PipelineOptions
from coupled_embedding.decode.stage_times import StageTimes
from coupled_embedding.networks.hrnet import HRNetSettings
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.utils.errors import NonFiniteError, UserError

SIZE = (100, 80)  # of the images
BASE = (192, 128)  # of their inputs
# joint 0 is a red spot, joint 1 a green one, blue ground is the second person's tag
PEOPLE = [{"red": (20, 20), "green": (30, 55)}, {"red": (70, 30), "green": (84, 60)}]


class ColorNetwork(nn.Module):
    """A pose network that reads the maps off the image's colors, the same for any batch."""

    def __init__(self):
        super().__init__()
        self.std = nn.Parameter(torch.tensor(STD).view(3, 1, 1))
        self.mean = nn.Parameter(torch.tensor(MEAN).view(3, 1, 1))

    def forward(self, images):
        colors = (images * self.std + self.mean) / 255
        low, high = (F.avg_pool2d(colors, stride) for stride in (4, 2))
        tags = 4 * low[:, 2:, :, :, None].expand(-1, 2, -1, -1, 2)
        return PoseOutput((low[:, :2], high[:, :2]), tags)


def image_of(people, shift=0):
    """Draw (H, W, 3) uint8 BGR soft spots."""
    x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    image = np.zeros((SIZE[1], SIZE[0], 3))
    image[:, 50:, 0] = 200
    for person in people:
        for channel, name in ((2, "red"), (1, "green")):
            spot = (x - person[name][0] - shift) ** 2 + (y - person[name][1]) ** 2
            image[..., channel] += 230 * np.exp(-spot / (2 * 5**2))
    return image.astype(np.uint8)


def batch_of(sources, indices, scales=(1.0,)):
    geometry = resize_geometry(SIZE, 128)
    images = tuple(torch.from_numpy(np.stack([warp_to_input(p, geometry, f) for p in sources])) for f in scales)
    return TestBatch(images, (geometry,) * len(sources), tuple(indices))


def pipeline_of(flip=True, scales=(1.0,), network=None, precision="fp32", threads=2, multiscale_tags="single"):
    settings = PipelineOptions((0, 1), DecodeOptions((0, 1)), flip, scales, precision, multiscale_tags=multiscale_tags)
    return InferencePipeline(network or ColorNetwork(), settings, threads)


def poses_of(pipeline, batch):
    maps = pipeline.forward(batch.images, batch.geometries[0].base_size)
    return pipeline.decode(maps.cpu(), batch.geometries)


def as_arrays(people):
    return [(pose.keypoints.tolist(), pose.score) for pose in people]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scales", [(1.0,), (2.0, 1.0), (0.5, 1.0, 2.0)])
def test_spots_are_found_where_they_are_in_the_image(flip, scales):
    batch = batch_of([image_of(PEOPLE)], [0], scales)
    (people,) = poses_of(pipeline_of(flip, scales), batch)
    assert len(people) == 2
    people.sort(key=lambda pose: pose.keypoints[0, 0])
    for pose, person in zip(people, PEOPLE, strict=True):
        np.testing.assert_allclose(pose.keypoints[:, :2], [person["red"], person["green"]], atol=1.5)
        assert pose.score > 0.5


def test_maps_are_those_of_the_network_and_the_flipped_image():
    batch = batch_of([image_of(PEOPLE)], [0])
    plain = pipeline_of(flip=False).forward(batch.images, BASE)
    flipped = pipeline_of(flip=True).forward(batch.images, BASE)
    network = ColorNetwork()(normalize(batch.images[0]))
    assert batch.geometries[0].base_size == BASE
    assert plain.heatmaps.shape == (1, 2, 64, 96)
    torch.testing.assert_close(plain.tags, network.tags)
    # of a flipped image this network outputs the flipped maps
    torch.testing.assert_close(flipped.heatmaps, plain.heatmaps)
    first, second = flipped.image(0).tags
    pixels = np.array([[0, 0], [47, 3], [20, 31]])
    for joint in range(2):
        expected = plain.tags[0, joint, pixels[:, 1], pixels[:, 0]]
        np.testing.assert_allclose(first.at(joint, pixels, (32, 48)), expected, rtol=1e-5)
        np.testing.assert_allclose(second.at(joint, pixels, (32, 48)), expected, rtol=1e-5)


def test_tags_come_from_factor_1_wherever_it_is_in_the_list():
    images = [image_of(PEOPLE)]
    alone = pipeline_of().forward(batch_of(images, [0]).images, BASE)
    for scales in ((2.0, 1.0), (1.0, 0.5)):
        maps = pipeline_of(scales=scales).forward(batch_of(images, [0], scales).images, BASE)
        assert maps.heatmaps.shape == (1, 2, 128, 192)
        torch.testing.assert_close(maps.tags, alone.tags)


@pytest.mark.parametrize("flip", [False, True])
def test_tags_of_all_factors_separate_the_same_people(flip):
    batch = batch_of([image_of(PEOPLE)], [0], (2.0, 1.0, 0.5))
    pipeline = pipeline_of(flip, (2.0, 1.0, 0.5), multiscale_tags="concat")
    maps = pipeline.forward(batch.images, BASE)
    assert maps.tags.shape == (1, 2, 128, 192, 3 * 2)
    (people,) = pipeline.decode(maps.cpu(), batch.geometries)
    found = sorted(pose.keypoints[0, 0] for pose in people)
    np.testing.assert_allclose(found, [20, 70], atol=1.5)


def test_pixels_are_prepared_as_the_network_wants_them():
    batch = batch_of([image_of(PEOPLE)], [0])
    settings = PipelineOptions((0, 1), DecodeOptions((0, 1)), flip=False, pixels="unit")
    maps = InferencePipeline(ColorNetwork(), settings).forward(batch.images, BASE)
    expected = ColorNetwork()(batch.images[0].permute(0, 3, 1, 2) / 255)
    torch.testing.assert_close(maps.tags, expected.tags)


def test_a_batch_gives_what_its_images_give_alone():
    images = [image_of(PEOPLE), image_of(PEOPLE[:1], 5), image_of([]), image_of(PEOPLE, -3)]
    pipeline = pipeline_of()
    together = poses_of(pipeline, batch_of(images, range(4)))
    alone = [poses_of(pipeline, batch_of([image], [0]))[0] for image in images]
    assert [as_arrays(people) for people in together] == [as_arrays(people) for people in alone]
    assert [len(people) for people in together] == [2, 1, 0, 2]


@pytest.mark.parametrize("head", ["plain", "higher"])
def test_maps_of_a_real_network_do_not_depend_on_the_batch(head):
    torch.manual_seed(0)
    sizes = HRNetSettings(width=4, stem_width=8, stem_blocks=1, stage_modules=(1, 1, 1), stage_blocks=1)
    network = PoseNetwork(2, 3, sizes, head, 1).eval()
    for parameter in network.head.parameters():
        nn.init.normal_(parameter, std=0.3)
    pipeline = pipeline_of(network=network)
    images = [np.random.default_rng(i).integers(0, 256, (80, 100, 3), np.uint8) for i in range(3)]
    together = pipeline.forward(batch_of(images, range(3)).images, BASE)
    for i, image in enumerate(images):
        alone = pipeline.forward(batch_of([image], [0]).images, BASE)
        torch.testing.assert_close(together.heatmaps[i], alone.heatmaps[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(together.tags[i], alone.tags[0], rtol=1e-4, atol=1e-4)
    half = pipeline_of(network=network, precision="bf16").forward(batch_of(images, range(3)).images, BASE)
    assert (half.heatmaps.dtype, half.tags.dtype) == (torch.float32, torch.bfloat16)
    assert not torch.equal(half.tags, together.tags)
    assert (half.tags - together.tags).abs().max() < 0.1 * together.tags.abs().max()


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_run_yields_every_image_once_in_order(threads):
    images = [image_of(PEOPLE[: i % 3], i - 4) for i in range(9)]
    batches = [batch_of(images[i : i + 2], range(i, min(i + 2, 9))) for i in range(0, 9, 2)]
    pipeline, times = pipeline_of(threads=threads), StageTimes()
    results = list(pipeline.run(iter(batches), times))
    assert [batch for batch, _ in results] == batches
    assert [index for batch, _ in results for index in batch.indices] == list(range(9))
    for batch, people in results:
        assert len(people) == len(batch.indices)
        assert [as_arrays(p) for p in people] == [as_arrays(p) for p in poses_of(pipeline, batch)]
    assert times.images == 9
    assert set(times.seconds) == {"load", "network", "decode"}


def test_run_of_nothing_yields_nothing():
    assert list(pipeline_of().run([])) == []


def test_broken_weights_are_reported_from_the_decoding_thread():
    network = ColorNetwork()
    nn.init.constant_(network.std, float("nan"))
    with pytest.raises(NonFiniteError, match="NaN or infinite"):
        list(pipeline_of(network=network).run([batch_of([image_of(PEOPLE)], [0])]))


def test_settings_come_from_the_config_and_the_schema():
    schema = load_schema("datasets/coco.yaml")
    overrides = ["TEST.FLIP", "False", "TEST.SCALES", "[2.0, 1.0]", "TEST.PRECISION", "bf16"]
    cfg = load_config(None, [*overrides, "TEST.MULTISCALE_TAGS", "concat", "MODEL.PIXELS", "unit"])
    settings = build_pipeline_options(cfg, schema)
    assert settings.flip_index == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
    assert (settings.flip, settings.scales, settings.precision) == (False, (2.0, 1.0), "bf16")
    assert (settings.multiscale_tags, settings.pixels) == ("concat", "unit")
    assert settings.decode.grouping_order == tuple(range(17))


def test_the_image_channels_arrive_in_the_order_that_the_network_knows():
    blue = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    cv2.circle(blue, (50, 40), 10, (255, 0, 0), -1)
    maps = pipeline_of().forward(batch_of([blue], [0]).images, BASE)
    assert maps.heatmaps.max() < 1e-4
    assert maps.tags.max() > 3.9


@pytest.mark.parametrize(("flip", "scales"), [(True, (1.0,)), (False, (1.0,)), (True, (1.0, 0.5))])
def test_a_batch_comes_from_a_gpu_without_waiting(host_traffic, flip, scales, monkeypatch):
    events = []
    monkeypatch.setattr(torch.cuda, "Event", lambda blocking: events.append(mock.Mock()) or events[-1])
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    # maps without values: neither the number of people nor where they are can change what is copied
    options = PipelineOptions((1, 0, 2), DecodeOptions((0, 1, 2)), flip, scales)
    with host_traffic.fake_cuda() as device:
        with device:
            network = PoseNetwork(3, 2, HRNetSettings(4, 8, 1, (1, 1, 1), 1), head_blocks=1)
        pipeline = InferencePipeline(network.eval(), options)
        for sources in (1, 4):
            images = [torch.zeros(sources, int(64 * f), int(128 * f), 3, dtype=torch.uint8) for f in scales]
            with host_traffic.HostTraffic() as traffic:
                on_device = pipeline.forward(images, (128, 64))
            assert traffic.seen == {}
            with host_traffic.HostTraffic() as traffic:
                maps, wait = on_device.start_transfer()
            assert traffic.seen == {}
            assert events[-1].method_calls == [mock.call.record(f"stream of {device}")]
            wait()
            assert events[-1].method_calls[1:] == [mock.call.synchronize()]
            assert on_device.heatmaps.device == device
            assert maps.heatmaps.device == maps.tags.device == torch.device("cpu")
            assert maps.heatmaps.shape[:2] == (sources, 3)


class SmallMemory(ColorNetwork):
    """A network on a device that has no room for more inputs than ``most`` at once."""

    def __init__(self, most):
        super().__init__()
        self.most, self.seen = most, []

    def forward(self, images):
        self.seen.append(len(images))
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 30.00 GiB.\nGPU 0 has ...")
        return super().forward(images)


def test_a_batch_that_does_not_fit_is_halved_until_it_does():
    sources = [image_of(PEOPLE, shift) for shift in range(5)]
    batch = batch_of(sources, range(5))
    (_, expected) = next(pipeline_of(flip=False).run([batch]))
    network = SmallMemory(2)
    ((same, found),) = pipeline_of(flip=False, network=network).run([batch])
    assert network.seen == [5, 2, 3, 1, 2]
    assert same is batch
    assert [as_arrays(people) for people in found] == [as_arrays(people) for people in expected]


def test_an_image_that_does_not_fit_is_an_error_with_its_size():
    pipeline = pipeline_of(network=SmallMemory(0))
    with pytest.raises(UserError, match=r"an image of 192×128 input pixels does not fit .*30\.00 GiB\.\); choose TEST"):
        list(pipeline.run([batch_of([image_of(PEOPLE)] * 2, range(2))]))
