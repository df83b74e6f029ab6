import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from coupled_embedding.config import load_config
from coupled_embedding.data.geometry import fit_geometry
from coupled_embedding.data.images import MEAN, STD, normalise
from coupled_embedding.data.pose_output import PoseMaps
from coupled_embedding.data.schema import load_schema
from coupled_embedding.data.test_dataset import InputBatch, warp_to_input
from coupled_embedding.decode.decode import DecodeSettings
from coupled_embedding.decode.pipeline import (
    EstimatorSettings,
    PoseEstimator,
    StageTimes,
    build_estimator_settings,
)
from coupled_embedding.networks.hrnet import HRNetSettings
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.utils.errors import CheckpointError

SIZE = (100, 80)  # of the photos
BASE = (192, 128)  # of their inputs
# joint 0 is a red spot, joint 1 a green one, blue ground is the second person's tag
PEOPLE = [{"red": (20, 20), "green": (30, 55)}, {"red": (70, 30), "green": (84, 60)}]


class ColourNetwork(nn.Module):
    """A pose network that reads the maps off the photo's colours, the same for any batch."""

    def __init__(self):
        super().__init__()
        self.std = nn.Parameter(torch.tensor(STD).view(3, 1, 1))
        self.mean = nn.Parameter(torch.tensor(MEAN).view(3, 1, 1))

    def forward(self, images):
        colours = (images * self.std + self.mean) / 255
        low, high = (F.avg_pool2d(colours, stride) for stride in (4, 2))
        tags = 4 * low[:, 2:, :, :, None].expand(-1, 2, -1, -1, 2)
        return PoseMaps((low[:, :2], high[:, :2]), tags)


def photo_of(people, shift=0):
    """Draw (H, W, 3) uint8 BGR soft spots."""
    x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    photo = np.zeros((SIZE[1], SIZE[0], 3))
    photo[:, 50:, 0] = 200
    for person in people:
        for channel, name in ((2, "red"), (1, "green")):
            spot = (x - person[name][0] - shift) ** 2 + (y - person[name][1]) ** 2
            photo[..., channel] += 230 * np.exp(-spot / (2 * 5**2))
    return photo.astype(np.uint8)


def batch_of(photos, indices, scales=(1.0,)):
    geometry = fit_geometry(SIZE, 128)
    images = tuple(torch.from_numpy(np.stack([warp_to_input(p, geometry, f) for p in photos])) for f in scales)
    return InputBatch(images, (geometry,) * len(photos), tuple(indices))


def estimator_of(flip=True, scales=(1.0,), network=None, precision="fp32", threads=2, tag_scales="base"):
    settings = EstimatorSettings((0, 1), DecodeSettings((0, 1)), flip, scales, precision, tag_scales=tag_scales)
    return PoseEstimator(network or ColourNetwork(), settings, threads)


def people_of(estimator, batch):
    maps = estimator.maps(batch.images, batch.geometries[0].base_size)
    return estimator.people(maps.cpu(), batch.geometries)


def as_arrays(people):
    return [(pose.keypoints.tolist(), pose.score) for pose in people]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scales", [(1.0,), (2.0, 1.0), (0.5, 1.0, 2.0)])
def test_spots_are_found_where_they_are_in_the_photo(flip, scales):
    batch = batch_of([photo_of(PEOPLE)], [0], scales)
    (people,) = people_of(estimator_of(flip, scales), batch)
    assert len(people) == 2
    people.sort(key=lambda pose: pose.keypoints[0, 0])
    for pose, person in zip(people, PEOPLE, strict=True):
        np.testing.assert_allclose(pose.keypoints[:, :2], [person["red"], person["green"]], atol=1.5)
        assert pose.score > 0.5


def test_maps_are_those_of_the_network_and_the_mirrored_photo():
    batch = batch_of([photo_of(PEOPLE)], [0])
    plain = estimator_of(flip=False).maps(batch.images, BASE)
    flipped = estimator_of(flip=True).maps(batch.images, BASE)
    network = ColourNetwork()(normalise(batch.images[0]))
    assert batch.geometries[0].base_size == BASE
    assert plain.heatmaps.shape == (1, 2, 64, 96)
    torch.testing.assert_close(plain.tags, network.tags)
    # this network sees a mirrored photo as the mirror of the photo
    torch.testing.assert_close(flipped.heatmaps, plain.heatmaps)
    first, second = flipped.photo(0).tags
    pixels = np.array([[0, 0], [47, 3], [20, 31]])
    for joint in range(2):
        expected = plain.tags[0, joint, pixels[:, 1], pixels[:, 0]]
        np.testing.assert_allclose(first.at(joint, pixels, (32, 48)), expected, rtol=1e-5)
        np.testing.assert_allclose(second.at(joint, pixels, (32, 48)), expected, rtol=1e-5)


def test_tags_come_from_factor_1_wherever_it_stands():
    photos = [photo_of(PEOPLE)]
    alone = estimator_of().maps(batch_of(photos, [0]).images, BASE)
    for scales in ((2.0, 1.0), (1.0, 0.5)):
        maps = estimator_of(scales=scales).maps(batch_of(photos, [0], scales).images, BASE)
        assert maps.heatmaps.shape == (1, 2, 128, 192)
        torch.testing.assert_close(maps.tags, alone.tags)


@pytest.mark.parametrize("flip", [False, True])
def test_tags_of_all_factors_tell_the_same_people_apart(flip):
    batch = batch_of([photo_of(PEOPLE)], [0], (2.0, 1.0, 0.5))
    estimator = estimator_of(flip, (2.0, 1.0, 0.5), tag_scales="all")
    maps = estimator.maps(batch.images, BASE)
    assert maps.tags.shape == (1, 2, 128, 192, 3 * 2)
    (people,) = estimator.people(maps.cpu(), batch.geometries)
    found = sorted(pose.keypoints[0, 0] for pose in people)
    np.testing.assert_allclose(found, [20, 70], atol=1.5)


def test_pixels_are_prepared_as_the_network_wants_them():
    batch = batch_of([photo_of(PEOPLE)], [0])
    settings = EstimatorSettings((0, 1), DecodeSettings((0, 1)), flip=False, pixels="unit")
    maps = PoseEstimator(ColourNetwork(), settings).maps(batch.images, BASE)
    expected = ColourNetwork()(batch.images[0].permute(0, 3, 1, 2) / 255)
    torch.testing.assert_close(maps.tags, expected.tags)


def test_a_batch_gives_what_its_photos_give_alone():
    photos = [photo_of(PEOPLE), photo_of(PEOPLE[:1], 5), photo_of([]), photo_of(PEOPLE, -3)]
    estimator = estimator_of()
    together = people_of(estimator, batch_of(photos, range(4)))
    alone = [people_of(estimator, batch_of([photo], [0]))[0] for photo in photos]
    assert [as_arrays(people) for people in together] == [as_arrays(people) for people in alone]
    assert [len(people) for people in together] == [2, 1, 0, 2]


@pytest.mark.parametrize("head", ["plain", "higher"])
def test_maps_of_a_real_network_do_not_depend_on_the_batch(head):
    torch.manual_seed(0)
    sizes = HRNetSettings(width=4, stem_width=8, stem_blocks=1, stage_modules=(1, 1, 1), stage_blocks=1)
    network = PoseNetwork(2, 3, sizes, head, 1).eval()
    for parameter in network.head.parameters():
        nn.init.normal_(parameter, std=0.3)
    estimator = estimator_of(network=network)
    photos = [np.random.default_rng(i).integers(0, 256, (80, 100, 3), np.uint8) for i in range(3)]
    together = estimator.maps(batch_of(photos, range(3)).images, BASE)
    for i, photo in enumerate(photos):
        alone = estimator.maps(batch_of([photo], [0]).images, BASE)
        torch.testing.assert_close(together.heatmaps[i], alone.heatmaps[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(together.tags[i], alone.tags[0], rtol=1e-4, atol=1e-4)
    half = estimator_of(network=network, precision="bf16").maps(batch_of(photos, range(3)).images, BASE)
    assert half.heatmaps.dtype == half.tags.dtype == torch.float32
    assert not torch.equal(half.tags, together.tags)
    assert (half.tags - together.tags).abs().max() < 0.1 * together.tags.abs().max()


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_run_yields_every_photo_once_in_order(threads):
    photos = [photo_of(PEOPLE[: i % 3], i - 4) for i in range(9)]
    batches = [batch_of(photos[i : i + 2], range(i, min(i + 2, 9))) for i in range(0, 9, 2)]
    estimator, times = estimator_of(threads=threads), StageTimes()
    results = list(estimator.run(iter(batches), times))
    assert [batch for batch, _ in results] == batches
    assert [index for batch, _ in results for index in batch.indices] == list(range(9))
    for batch, people in results:
        assert len(people) == len(batch.indices)
        assert [as_arrays(p) for p in people] == [as_arrays(p) for p in people_of(estimator, batch)]
    assert times.photos == 9
    assert set(times.seconds) == {"load", "network", "decode"}


def test_run_of_nothing_yields_nothing():
    assert list(estimator_of().run([])) == []


def test_broken_weights_are_reported_from_the_decoding_thread():
    network = ColourNetwork()
    nn.init.constant_(network.std, float("nan"))
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        list(estimator_of(network=network).run([batch_of([photo_of(PEOPLE)], [0])]))


def test_settings_come_from_the_config_and_the_schema():
    schema = load_schema("datasets/coco.yaml")
    overrides = ["TEST.FLIP", "False", "TEST.SCALES", "[2.0, 1.0]", "TEST.PRECISION", "bf16"]
    cfg = load_config(None, [*overrides, "TEST.TAG_SCALES", "all", "MODEL.PIXELS", "unit"])
    settings = build_estimator_settings(cfg, schema)
    assert settings.flip_index == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
    assert (settings.flip, settings.scales, settings.precision) == (False, (2.0, 1.0), "bf16")
    assert (settings.tag_scales, settings.pixels) == ("all", "unit")
    assert settings.decode.grouping_order == tuple(range(17))


def test_the_photo_channels_arrive_in_the_order_that_the_network_knows():
    blue = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    cv2.circle(blue, (50, 40), 10, (255, 0, 0), -1)
    maps = estimator_of().maps(batch_of([blue], [0]).images, BASE)
    assert maps.heatmaps.max() < 1e-4
    assert maps.tags.max() > 3.9


@pytest.mark.parametrize(("flip", "scales"), [(True, (1.0,)), (False, (1.0,)), (True, (1.0, 0.5))])
def test_a_batch_comes_from_a_gpu_in_one_copy(host_traffic, flip, scales):
    # maps without numbers: neither the number of people nor where they are can change what is copied
    options = EstimatorSettings((1, 0, 2), DecodeSettings((0, 1, 2)), flip, scales)
    with host_traffic.fake_cuda() as device:
        with device:
            network = PoseNetwork(3, 2, HRNetSettings(4, 8, 1, (1, 1, 1), 1), head_blocks=1)
        estimator = PoseEstimator(network.eval(), options)
        for photos in (1, 4):
            images = [torch.zeros(photos, int(64 * f), int(128 * f), 3, dtype=torch.uint8) for f in scales]
            with host_traffic.HostTraffic() as traffic:
                on_device = estimator.maps(images, (128, 64))
            assert traffic.seen == {}
            with host_traffic.HostTraffic() as traffic:
                maps = on_device.cpu()
            assert traffic.seen == {"download": 1}
            assert on_device.heatmaps.device == device
            assert maps.heatmaps.device == maps.tags.device == torch.device("cpu")
            assert maps.heatmaps.shape[:2] == (photos, 3)
