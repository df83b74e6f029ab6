"""Time one forward pass of image and flipped image by onnxruntime and by this package, in turn, on one core.

python benchmarks/onnx_forward.py [--quick] [--json PATH]

Needs `pip install onnxruntime onnx onnxscript`, which nothing else here does. Both run the network with folded
batch norm, onnxruntime in float32, ours channels-last in float32 and bf16. Weights are random: poses are those of a
made-up crowd's maps to which the network's own are added.
"""

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import ROOT, Record, arguments, record, report
from made_up import made_up_crowd, made_up_inputs, made_up_network
from network import GivenOutput, on_host, relative_difference
from torch import Tensor, nn

from coupled_embedding.builders import build_decode_options
from coupled_embedding.config import load_config
from coupled_embedding.data.geometry import resize_geometry
from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.data.schema import load_schema
from coupled_embedding.decode.pipeline import InferencePipeline, PipelineOptions
from coupled_embedding.networks.folding import fold_batch_norm
from coupled_embedding.networks.pose_network import PRECISIONS, PoseNetwork


class Flat(nn.Module):
    """A pose network that returns its maps as a plain tuple, which the exporter needs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the heatmaps and then the tags."""
        output = self.network(images)
        return (*output.heatmaps, output.tags)


def exported(network: PoseNetwork, images: Tensor) -> Any:
    """Return an onnxruntime session of a network on one thread, for inputs of this shape."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        torch.onnx.export(Flat(network).eval(), (images,), path, input_names=["images"], dynamo=True, verbose=False)
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def poses(output: PoseOutput, crowd: PoseOutput, pipeline: InferencePipeline, images: Tensor) -> list[Any]:
    """Return the poses in a crowd's maps to which a network's are added."""
    heatmaps = tuple(a + b.float() for a, b in zip(crowd.heatmaps, output.heatmaps, strict=True))
    pipeline.network.output = PoseOutput(heatmaps, crowd.tags + output.tags.float())
    size = images.shape[1]
    found = pipeline.decode(pipeline.forward([images], (size, size)), [resize_geometry((size, size), size)])
    return [pose.keypoints.round(1).tolist() for pose in found[0]]


def measure(stem: str, options: list[str], runs: int) -> list[Record]:
    """Time a network in both precisions of ours next to onnxruntime; print whether the poses are the same."""
    cfg = load_config(ROOT / f"config/crowdpose/ce_{stem}.yaml", options)
    inputs = made_up_inputs(1, cfg.DATASET.INPUT_SIZE)
    network = fold_batch_norm(made_up_network(cfg, made_up_inputs(2, cfg.DATASET.INPUT_SIZE)).eval())
    pair = torch.cat((inputs.normalized, inputs.normalized.flip(-1)))
    session = exported(network, pair)
    network = network.to(memory_format=torch.channels_last)
    ours_input, feed = pair.contiguous(memory_format=torch.channels_last), {"images": pair.numpy()}
    decode = build_decode_options(cfg, load_schema(ROOT / "datasets/crowdpose.yaml"))
    crowd = made_up_crowd(cfg, 1, network.strides)
    pipeline = InferencePipeline(GivenOutput(network, crowd).eval(), PipelineOptions(tuple(range(14)), decode))

    def theirs() -> PoseOutput:
        *heatmaps, tags = (torch.from_numpy(values) for values in session.run(None, feed))
        return PoseOutput(tuple(heatmaps), tags)

    records = []
    expected = poses(theirs(), crowd, pipeline, inputs.images)
    for precision in ("fp32", "bf16"):
        dtype = PRECISIONS.get(precision)

        @torch.inference_mode()
        def ours(dtype: torch.dtype | None = dtype) -> PoseOutput:
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                return network(ours_input)

        found = poses(ours(), crowd, pipeline, inputs.images)
        same = sum(a == b for a, b in zip(found, expected, strict=False))
        print(f"{stem} {precision}: {same} of {len(expected)} poses equal to 0.1 pixel, {len(found)} found", flush=True)
        difference = relative_difference(on_host(ours()), on_host(theirs()))
        records.append(record(f"{stem}, {precision}, image and flipped image", ours, theirs, runs, difference))
    return records


def main() -> None:
    """Measure and print."""
    args = arguments(__doc__)
    if importlib.util.find_spec("onnxruntime") is None:
        print("skipped: onnxruntime is not installed")
        return
    torch.set_num_threads(1)
    options = ["MODEL.WIDTH", "8", "DATASET.INPUT_SIZE", "256"] if args.quick else []
    records = []
    for stem in ("hrhrnet_w32_512",) if args.quick else ("hrhrnet_w32_512", "hrnet_w32_512"):
        records += measure(stem, options, 3 if args.quick else 7)
    report(records, args.json)


if __name__ == "__main__":
    main()
