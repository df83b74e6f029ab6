import os
import pickle
import zipfile

import pytest
import safetensors.torch
import torch

from coupled_embedding.data.schema import load_schema
from coupled_embedding.networks.torch_files import read_weight_file
from coupled_embedding.networks.weights import (
    initialize,
    load_backbone,
    load_network,
    load_strictly,
    read_own_checkpoint,
    transfer_weights,
)
from coupled_embedding.utils.errors import CheckpointError

COCO = "datasets/coco.yaml"


@pytest.fixture
def network(tiny_network):
    return tiny_network(seed=1)


def equal(weights, others):
    return list(weights) == list(others) and all(torch.equal(weights[name], others[name]) for name in weights)


def save(content, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    return path


class Hostile:
    """Makes a folder when it is unpickled the careless way."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


# ---- reading


@pytest.mark.parametrize("legacy", [False, True])
def test_a_hostile_file_is_refused_without_being_run(tmp_path, legacy):
    marker = tmp_path / "owned"
    path = tmp_path / "hostile.pth"
    torch.save({"model": {"w": torch.ones(1)}, "x": Hostile(marker)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"hostile\.pth: not a readable weight file"):
        read_weight_file(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the file is a loaded gun indeed
    assert marker.exists()


def test_a_hostile_plain_pickle_is_refused_without_being_run(tmp_path):
    marker = tmp_path / "owned"
    path = tmp_path / "hostile.pkl"
    path.write_bytes(pickle.dumps({"model": Hostile(marker)}, protocol=2))
    with pytest.raises(CheckpointError, match="not a readable weight file"):
        read_weight_file(path)
    assert not marker.exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_cut_short_is_refused(tmp_path, network, share):
    path = save(network.state_dict(), tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="not a readable weight file"):
        read_weight_file(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.pth: no such weight file"):
        read_weight_file(tmp_path / "absent.pth")
    (tmp_path / "best.pth").touch()
    with pytest.raises(CheckpointError, match=r"no such weight file: it is a folder; .*best\.pth"):
        read_weight_file(tmp_path)


@pytest.mark.parametrize(
    ("names", "listed"),
    [
        (["b.pt", "a.pth", "notes.txt", "c.safetensors"], "give one of its files: a.pth, b.pt, c.safetensors"),
        (
            ["config.json", "model.safetensors", *(f"{n}.pth" for n in range(7))],
            "give one of its files: model.safetensors, 0.pth, 1.pth, 2.pth, 3.pth, 4.pth and 2 more",
        ),
        (["config.json"], "it has none of .pth, .pt, .safetensors, .bin"),
    ],
)
def test_a_folder_lists_its_weight_files(tiny_network, tmp_path, names, listed):
    for name in names:
        (tmp_path / name).touch()
    network = tiny_network(17)
    for option in ("init_from", "pretrained"):
        with pytest.raises(CheckpointError) as caught:
            initialize(network, load_schema(COCO), **{option: str(tmp_path)}, init_schema=COCO)
        assert str(caught.value) == f"{tmp_path}: no such weight file: it is a folder; {listed}"


def flip_bit_of_largest(path):
    """Flip one bit in a file's largest tensor."""
    with zipfile.ZipFile(path) as archive:
        tensors = [entry for entry in archive.infolist() if "/data/" in entry.filename]
        entry = max(tensors, key=lambda entry: entry.file_size)
        data = archive.read(entry)
    content = bytearray(path.read_bytes())
    content[content.index(data) + len(data) // 2] ^= 1
    path.write_bytes(content)
    return entry.filename


def test_one_wrong_bit_is_an_error_that_names_the_part(network, tiny_network, tmp_path):
    path = save({"model": network.state_dict()}, tmp_path)
    part = flip_bit_of_largest(path)
    assert all(tensor.isfinite().all() for tensor in torch.load(path, weights_only=True)["model"].values())
    with pytest.raises(CheckpointError) as caught:
        load_network(tiny_network(seed=2), path)
    text = f"{path}: not a readable weight file (the checksum of its part {part} is wrong); it is damaged: fetch"
    assert str(caught.value).startswith(text)


def test_a_file_saved_without_checksums_is_read(network, tiny_network, tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        path = save(network.state_dict(), tmp_path)
    finally:
        torch.serialization.set_crc32_options(True)
    other = tiny_network(seed=2)
    load_network(other, path)
    assert equal(other.state_dict(), network.state_dict())


def test_content_other_than_a_dict_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="expected a dict of tensors, got list"):
        read_weight_file(save([torch.ones(2)], tmp_path))


# ---- loading


@pytest.mark.parametrize("head", ["plain", "higher"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrap", [True, False])
def test_released_layouts_load_into_every_tensor(tiny_network, tmp_path, head, prefix, wrap):
    source, network = tiny_network(head=head, seed=1), tiny_network(head=head, seed=2)
    for buffer in source.buffers():
        buffer += 1
    weights = {prefix + name: value for name, value in source.state_dict().items()}
    load_network(network, save({"model": weights} if wrap else weights, tmp_path))
    assert equal(network.state_dict(), source.state_dict())


def test_every_missing_extra_and_misshapen_key_is_listed_and_nothing_is_loaded(network, tiny_network, tmp_path):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    weights = tiny_network(seed=2).state_dict()
    del weights["head.tms_pred_layers.bias"], weights["backbone.bn1.running_mean"]
    weights["head.extra"] = torch.ones(3)
    weights["backbone.conv1.weight"] = torch.ones(2, 3, 3, 3)
    with pytest.raises(CheckpointError) as error:
        load_network(network, save({"model": weights}, tmp_path))
    text = str(error.value)
    assert (
        "weights.pth: does not fit this network (4 keys): MODEL.STEM_WIDTH is 2 in the file, 8 in this network" in text
    )
    assert "missing: head.tms_pred_layers.bias [6]" in text
    assert "missing: backbone.bn1.running_mean [8]" in text
    assert "not in this network: head.extra" in text
    assert "shape: backbone.conv1.weight is [2, 3, 3, 3] in the file, [8, 3, 3, 3] in this network" in text
    assert len(text.splitlines()) == 5
    assert equal(network.state_dict(), before)


def test_weights_of_the_other_head_are_refused(tiny_network, tmp_path):
    path = save({"model": tiny_network(head="plain").state_dict()}, tmp_path)
    with pytest.raises(CheckpointError, match=r"missing: head\.deconv_layers\.0\.weight"):
        load_network(tiny_network(head="higher"), path)


def test_loading_strictly_copies(network):
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    load_strictly(network, weights, "file")
    weights["backbone.conv1.weight"].fill_(7)
    assert not (network.backbone.conv1.weight == 7).any()


# ---- types


def into(loader, network, path):
    """Load a file as test.py, MODEL.INIT_FROM or MODEL.PRETRAINED do."""
    if loader == "test":
        load_network(network, path)
    elif loader == "start":
        initialize(network, load_schema(COCO), init_from=str(path), init_schema=COCO)
    else:
        load_backbone(network, path)


@pytest.mark.parametrize("loader", ["test", "start", "backbone"])
@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.uint8, torch.int64])
def test_weights_that_are_not_floating_point_are_refused(tiny_network, tmp_path, loader, dtype):
    network = tiny_network(17, seed=1)
    part = network.backbone if loader == "backbone" else network
    weights = {name: (10 * tensor).to(dtype) for name, tensor in part.state_dict().items()}
    other = tiny_network(17, seed=2)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        into(loader, other, save({"state_dict": weights}, tmp_path))
    first = next(iter(weights))
    text = f"{first} is {dtype} in the file, torch.float32 in this network; give the floating-point weights that the"
    assert text in str(caught.value).splitlines()[0]
    assert equal(other.state_dict(), before)


@pytest.mark.parametrize("loader", ["test", "start", "backbone"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_point_weights_of_any_size_load(tiny_network, tmp_path, loader, dtype):
    network = tiny_network(17, seed=1)
    part = network.backbone if loader == "backbone" else network
    weights = {k: v.to(dtype) if v.is_floating_point() else v for k, v in part.state_dict().items()}
    other = tiny_network(17, seed=2)
    into(loader, other, save(weights, tmp_path))
    own = (other.backbone if loader == "backbone" else other).state_dict()
    assert all(torch.equal(own[name], weights[name].to(own[name].dtype)) for name in weights)


@pytest.mark.parametrize("kind", ["int8", "float8_e4m3fn"])
def test_eight_bits_of_a_head_for_other_joints_are_refused(tiny_network, tmp_path, kind):
    source, target = tiny_network(4, seed=1), tiny_network(3, seed=2)
    name = "head.tms_pred_layers.bias"
    weights = {**source.state_dict(), name: torch.ones(8).to(getattr(torch, kind))}
    safetensors.torch.save_file(weights, tmp_path / "w.safetensors")
    read = read_weight_file(tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=f"{name} is torch.{kind} in the file, torch.float32 in this network"):
        transfer_weights(target, read, ("a", "b", "c", "d"), ("a", "b", "e"), "w.safetensors")


def test_a_number_beyond_float32_is_not_finite(network, tiny_network):
    name = "backbone.conv1.weight"
    weights = {**network.state_dict(), name: torch.full((8, 3, 3, 3), 1e300, dtype=torch.float64)}
    with pytest.raises(CheckpointError, match=f"not finite: {name}"):
        load_strictly(tiny_network(seed=2), weights, "f")


# ---- ImageNet backbones


def imagenet_weights(network):
    """The backbone's tensors with all that the published files have beyond them."""
    weights = {name: value + 1 for name, value in network.backbone.state_dict().items()}
    last = len(network.backbone.stage4) - 1
    extra = [
        f"stage4.{last}.fuse_layers.1.0.0.0.weight",
        f"stage4.{last}.fuse_layers.2.3.1.running_var",
        f"stage4.{last}.fuse_layers.3.0.2.1.num_batches_tracked",
        "incre_modules.0.0.conv1.weight",
        "downsamp_modules.2.0.weight",
        "final_layer.0.weight",
        "classifier.weight",
        "classifier.bias",
    ]
    return weights, extra


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrap", [True, False])
def test_imagenet_file_fills_the_backbone_and_reports_what_it_drops(network, tmp_path, prefix, wrap):
    weights, extra = imagenet_weights(network)
    head = {name: value.clone() for name, value in network.head.state_dict().items()}
    content = {prefix + name: value for name, value in {**weights, **dict.fromkeys(extra, torch.ones(1))}.items()}
    unused = load_backbone(network, save({"model": content} if wrap else content, tmp_path))
    assert unused == extra
    assert equal(network.backbone.state_dict(), weights)
    assert equal(network.head.state_dict(), head)


@pytest.mark.parametrize(
    "stranger",
    [
        "stage4.0.fuse_layers.4.0.weight",
        "stage3.0.fuse_layers.3.0.0.weight",
        "head.classifier.weight",
        "backbone.conv1.weight",
        "stage5.0.weight",
    ],
)
def test_any_other_key_of_an_imagenet_file_is_an_error(network, tmp_path, stranger):
    weights, _ = imagenet_weights(network)
    with pytest.raises(CheckpointError, match=f"not in this network: {stranger}"):
        load_backbone(network, save({**weights, stranger: torch.ones(1)}, tmp_path))


def test_fuse_layers_of_earlier_modules_are_not_dropped(network, tmp_path):
    weights, _ = imagenet_weights(network)
    name = "stage4.0.fuse_layers.3.0.0.0.weight"  # the tiny network has two modules in stage 4
    assert name in weights
    del weights[name]
    with pytest.raises(CheckpointError, match=f"missing: {name}"):
        load_backbone(network, save(weights, tmp_path))


def test_an_imagenet_file_of_another_width_or_none_at_all_is_an_error(network, tmp_path):
    weights, _ = imagenet_weights(network)
    weights["stage2.0.branches.0.0.conv1.weight"] = torch.ones(5, 5, 3, 3)
    with pytest.raises(CheckpointError, match=r"\[5, 5, 3, 3\] in the file, \[4, 4, 3, 3\] in this network"):
        load_backbone(network, save(weights, tmp_path))
    with pytest.raises(CheckpointError, match="no such weight file"):
        load_backbone(network, tmp_path / "hrnet_w32-36af842e.pth")


@pytest.mark.parametrize("wrapper", ["", "module."])
@pytest.mark.parametrize("extra", ["classifier.weight", "backbone.classifier.weight", "backbone.final_layer.weight"])
def test_a_backbone_under_a_networks_names_fills_the_backbone(network, tmp_path, wrapper, extra):
    weights, _ = imagenet_weights(network)
    content = {f"{wrapper}backbone.{name}": tensor for name, tensor in weights.items()}
    path = save({"state_dict": {**content, wrapper + extra: torch.ones(1)}}, tmp_path)
    assert load_backbone(network, path) == [extra.removeprefix("backbone.")]
    assert equal(network.backbone.state_dict(), weights)


def test_a_stranger_beside_a_backbone_under_a_networks_names_is_an_error(network, tmp_path):
    weights, _ = imagenet_weights(network)
    content = {f"backbone.{name}": tensor for name, tensor in weights.items()}
    with pytest.raises(CheckpointError, match=r"\(1 keys\).*\n  not in this network: neck\.weight"):
        load_backbone(network, save({**content, "neck.weight": torch.ones(1)}, tmp_path))


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_a_backbone_given_as_a_network_belongs_elsewhere(tiny_network, tmp_path, prefix):
    network = tiny_network(17)
    path = save({prefix + k: v for k, v in network.backbone.state_dict().items()}, tmp_path)
    for loader in ("test", "start"):
        with pytest.raises(CheckpointError, match=r"it holds a backbone without a head; MODEL\.PRETRAINED takes it"):
            into(loader, network, path)
    with pytest.raises(
        CheckpointError, match=r"not a checkpoint of this .*a backbone without a head; MODEL\.PRETRAINED"
    ):
        read_own_checkpoint(path)


@pytest.mark.parametrize("head", ["final_layers.0.weight", "keypoint_head.final_layers.0.weight"])
def test_a_whole_network_of_another_program_is_no_backbone(tiny_network, tmp_path, head):
    network = tiny_network(17)
    prefix = "backbone." if head.startswith("keypoint_head") else ""
    backbone = {prefix + k: v for k, v in network.backbone.state_dict().items()}
    path = save({**backbone, head: torch.ones(34, 4, 1, 1)}, tmp_path)
    with pytest.raises(CheckpointError, match=r"is a whole network, not a backbone; MODEL\.INIT_FROM"):
        load_backbone(network, path)
    with pytest.raises(
        CheckpointError, match=r"weights for 17 joints by the names of HigherHRNet's.*tools/convert\.py"
    ):
        into("start", network, path)
