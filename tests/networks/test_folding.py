import numpy as np
import pytest
import torch
from torch import nn

from coupled_embedding.builders import build_model, build_pipeline_options
from coupled_embedding.config import load_config
from coupled_embedding.data.schema import load_schema
from coupled_embedding.decode.aggregate import merge_resolutions
from coupled_embedding.decode.pipeline import InferencePipeline
from coupled_embedding.networks.folding import fold_batch_norm


def norms(network):
    return [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize("head", ["plain", "higher"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_folded_network_outputs_the_same_maps(tiny_network, fill_by_name, head, layout):
    network = fill_by_name(tiny_network(head=head)).to(memory_format=layout)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    folded = fold_batch_norm(network)
    image = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=layout)
    with torch.inference_mode():
        expected, output = network(image), folded(image)
    for own, other in zip((*output.heatmaps, output.tags), (*expected.heatmaps, expected.tags), strict=True):
        assert (own - other).abs().max() <= 1e-5 * other.std()
    # a copy: the network that goes on training is untouched
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert norms(network)


@pytest.mark.parametrize("head", ["plain", "higher"])
def test_no_batch_norm_is_left(tiny_network, head):
    folded = fold_batch_norm(tiny_network(head=head))
    assert norms(folded) == []
    assert not any(buffer.numel() for buffer in folded.buffers())


def test_batch_norms_of_several_processes_are_folded_too(tiny_network, fill_by_name):
    network = fill_by_name(tiny_network())
    synchronized = nn.SyncBatchNorm.convert_sync_batchnorm(tiny_network()).eval()
    synchronized.load_state_dict(network.state_dict())
    folded, expected = fold_batch_norm(synchronized), fold_batch_norm(network)
    assert norms(folded) == []
    for (name, own), other in zip(folded.state_dict().items(), expected.state_dict().values(), strict=True):
        assert torch.equal(own, other), name


def test_a_network_that_trains_is_refused(tiny_network):
    with pytest.raises(ValueError, match=r"call network\.eval\(\) first"):
        fold_batch_norm(tiny_network().train())


@pytest.mark.parametrize("fold", [True, False])
def test_the_config_decides(tiny_network, fold):
    cfg = load_config(None, ["TEST.FOLD_BN", str(fold)])
    network = tiny_network()
    pipeline = InferencePipeline(network, build_pipeline_options(cfg, load_schema(cfg.DATASET.SCHEMA)))
    assert bool(norms(pipeline.network)) is not fold
    assert load_config(None, []).TEST.FOLD_BN


@pytest.mark.reference
def test_folded_networks_output_the_recorded_maps(forward_case, checkout, fill_by_name):
    recorded = np.load(forward_case)
    dataset, name = forward_case.stem.removeprefix("forward_").split("_", 1)
    cfg = load_config(checkout / "config" / dataset / f"{name}.yaml")
    with torch.device("meta"):
        network = build_model(cfg, load_schema(cfg.DATASET.SCHEMA).num_joints)
    folded = fold_batch_norm(fill_by_name(network))
    with torch.inference_mode():
        output = folded(torch.from_numpy(recorded["image"]))
    own = {f"heatmaps_{i}": heatmap for i, heatmap in enumerate(output.heatmaps)}
    own |= {"tagmaps": output.tags, "inference_heatmaps": merge_resolutions(output)}
    for name, maps in own.items():
        assert np.abs(maps.numpy() - recorded[name]).max() <= 1e-5 * recorded[name].std(), name
