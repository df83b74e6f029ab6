"""Files of other kinds are refused in one error that says what they are and what to do."""

import io
import pickle
import tarfile
import zipfile

import pytest
import torch

from coupled_embedding.networks.torch_files import read_weight_file
from coupled_embedding.utils.errors import CheckpointError

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 115298043\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in\n - Drive</title></head>"


def zipped(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    return file.getvalue()


def tarred():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("best.pth"))
    return file.getvalue()


def scripted():
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), file)
    return file.getvalue()


def saved(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def refusal(path, content):
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_weight_file(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: not a readable weight file (")
    assert len(text.splitlines()) <= 3
    return text


@pytest.mark.parametrize(
    ("content", "what", "remedy"),
    [
        (LFS, "a git-LFS pointer to a file of 115,298,043 bytes", "git lfs pull"),
        (LFS[:60], "a git-LFS pointer", "git lfs pull"),
        (PAGE, "an HTML page ('Sign in - Drive')", "by the address of the file itself"),
        (b"\xef\xbb\xbf<html lang=en>404", "an HTML page", "by the address of the file itself"),
        (b'<?xml version="1.0"?><html xmlns="x">', "an HTML page", "by the address of the file itself"),
        (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "text that begins with", "give a file"),
        (b'{"error": "not found"}', "text that begins with", "give a file"),
        (b"", "the file is empty", "fetch the weights again"),
        (b"PK\x03\x04 cut short", "cut off or damaged", "fetch the weights again"),
        (zipped(), "an empty zip archive", "fetch the weights again"),
        (zipped("a/best.pth", "a/readme"), "a zip archive, not a PyTorch file: it holds a/best.pth", "unpack it"),
        (zipped("w.npy"), "an archive of NumPy arrays", "export them"),
        (zipped("config.json", "model.weights.h5"), "a Keras model", "export them"),
        (zipped("m/archive_format", "m/data.pkl"), "a program of torch.export", "give the .pth file"),
        (tarred(), "a tar archive, not a PyTorch file", "unpack it"),
        (b"\x1f\x8b\x08" + bytes(50), "a gzip archive", "unpack it"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "an HDF5 file", "export them"),
        (b"\x08\x01\x12\x80" + bytes(50), "a TensorFlow SavedModel", "export them"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(50), "a TensorFlow Lite model", "export them"),
        (b"\x08\x0a\x12\x07pytorch\x1a" + bytes(50), "an ONNX model", "give the .pth file that the ONNX model"),
        (b"\x93NUMPY\x01\x00" + bytes(50), "a NumPy array", "export them"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "a JPEG image", "give a file"),
        (b"\x01\x02\x03\x04" + bytes(50), "does not begin like a file of torch.save", "give a .pth"),
        (pickle.dumps({"a": 1}, protocol=2), "a plain pickle", "give a .pth"),
        (scripted(), "a TorchScript archive", "torch.jit.load"),
        (saved({"model": {}}, pickle_protocol=4), "its pickle is of protocol 4 or later", "save it again"),
    ],
)
def test_another_kind_of_file_is_named_with_what_to_do(tmp_path, content, what, remedy):
    text = refusal(tmp_path / "weights.pth", content)
    assert what in text
    assert remedy in text


@pytest.mark.parametrize("name", ["model.onnx", "ckpt.data-00000-of-00001", "weights.safetensors"])
def test_a_name_tells_a_kind_where_the_content_does_not(tmp_path, name):
    text = refusal(tmp_path / name, b"\x01\x02\x03\x04\xff" + b"\xff" * 50)
    assert any(what in text for what in ("an ONNX model", "TensorFlow checkpoint", "safetensors file, or none"))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_torch_file_under_a_safetensors_name_is_to_be_renamed(tiny_network, tmp_path, legacy):
    content = saved(tiny_network().state_dict(), _use_new_zipfile_serialization=not legacy)
    text = refusal(tmp_path / "w.safetensors", content)
    assert text.endswith("(a PyTorch file under the name of a safetensors file); rename it to w.pth")
    (tmp_path / "w.safetensors").rename(tmp_path / "w.pth")
    assert read_weight_file(tmp_path / "w.pth").keys() == tiny_network().state_dict().keys()


def test_another_archive_under_a_safetensors_name_is_that_archive(tmp_path):
    assert "an archive of NumPy arrays" in refusal(tmp_path / "w.safetensors", zipped("w.npy"))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("key", [None, "model", "state_dict"])
def test_numpy_arrays_are_named_and_the_command_turns_them_into_tensors(
    tiny_network, tmp_path, monkeypatch, legacy, key
):
    weights = tiny_network().state_dict()
    arrays = {name: tensor.numpy() for name, tensor in weights.items()}
    content = {key: arrays, "epoch": 3} if key else {**arrays, "arch": "hrnet"}
    text = refusal(tmp_path / "arrays.pth", saved(content, _use_new_zipfile_serialization=not legacy))
    assert "(it holds NumPy arrays, not tensors); where you trust its maker, write its weights alone as tensors" in text
    monkeypatch.chdir(tmp_path)
    exec(text.split('python -c "')[1].removesuffix('"'))
    found = read_weight_file("weights.pth")
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in found)


def test_a_page_under_a_safetensors_name_is_a_page(tmp_path):
    assert "an HTML page" in refusal(tmp_path / "weights.safetensors", PAGE)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("key", [None, "model"])
def test_a_whole_pickled_network_is_refused_with_how_to_get_its_weights(tiny_network, tmp_path, legacy, key):
    network = tiny_network()
    content = saved({key: network} if key else network, _use_new_zipfile_serialization=not legacy)
    text = refusal(tmp_path / "whole.pth", content)
    assert "a whole pickled network, of 'coupled_embedding.networks.pose_network.PoseNetwork'" in text
    assert "where you trust its maker" in text


def test_the_command_takes_the_weights_out_of_a_whole_network(tiny_network, tmp_path, monkeypatch):
    network = tiny_network()
    text = refusal(tmp_path / "whole.pth", saved({"model": network, "epoch": 3}))
    monkeypatch.chdir(tmp_path)
    exec(text.split('python -c "')[1].removesuffix('"'))
    assert read_weight_file("weights.pth").keys() == network.state_dict().keys()
