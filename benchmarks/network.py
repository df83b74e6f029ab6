"""Time training steps and tests of whole networks against float32, NCHW, loop losses and the plain decode.

python benchmarks/network.py [--quick] [--json PATH]

Ours: channels-last, fused Adam, our losses; batch norm folded and our decode in tests. On a processor in float32 and
bf16, on a GPU in bf16, also compiled and with CUDA graphs. The largest difference is relative: of a training's first
loss, or of a test's heatmaps and tags to the largest of them. Weights are random, which amplifies rounding (float32
is itself 1e-5 off float64), and which is why a test decodes a crowd's made-up maps instead of the network's. Loading
images and building targets are not timed.
"""

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from common import ROOT, Record, arguments, report
from made_up import DEVICE, JOINTS, Inputs, made_up_crowd, made_up_inputs, made_up_network, made_up_targets
from torch import Tensor, nn
from yacs.config import CfgNode

from coupled_embedding.builders import build_criterion, build_decode_options
from coupled_embedding.config import load_config
from coupled_embedding.data.geometry import resize_geometry
from coupled_embedding.data.images import normalize
from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.data.schema import load_schema
from coupled_embedding.data.targets import Targets
from coupled_embedding.decode.aggregate import MergedMaps, merge_flip, merge_resolutions
from coupled_embedding.decode.pipeline import InferencePipeline, PipelineOptions
from coupled_embedding.decode.reference import decode_reference
from coupled_embedding.networks.pose_network import PRECISIONS, PoseNetwork
from losses import PlainCriterion

NO_FLIP = tuple(range(JOINTS))  # the made-up flipped maps keep their joints
# multiplications and additions of one image's forward pass, by backbone, head and input
GFLOP = {"hrnet_w32_512": 81.7, "hrhrnet_w32_512": 92.2, "hrnet_w48_640": 261.8, "hrhrnet_w48_640": 298.4}
H200_TFLOPS = 989.0  # bf16, dense
Value = float | PoseOutput  # a training step's loss, a test's output
Plain = Callable[[], Value]
Ours = Callable[["Way"], Callable[[], Value]]


@dataclass(frozen=True)
class Way:
    """How ours runs: the network's precision and ``torch.compile``'s mode, None for eager."""

    name: str
    precision: str
    compile_mode: str | None = None

    def ready(self, network: nn.Module) -> nn.Module:
        """Return the network on the device, compiled if this way says so."""
        network = network.to(DEVICE, memory_format=torch.channels_last)
        return torch.compile(network, mode=self.compile_mode) if self.compile_mode else network

    def autocast(self) -> torch.autocast:
        """Return the context of a forward pass."""
        precision = PRECISIONS.get(self.precision)
        return torch.autocast(DEVICE.type, precision, enabled=precision is not None)


ON_PROCESSOR = (Way("float32", "fp32"), Way("bf16", "bf16"))
ON_GPU = (
    Way("bf16", "bf16"),
    Way("bf16, torch.compile", "bf16", "default"),
    Way("bf16, torch.compile with CUDA graphs", "bf16", "reduce-overhead"),
)


def training_steps(cfg: CfgNode, network: PoseNetwork, inputs: Inputs) -> tuple[Ours, Plain]:
    """Return a builder of our step by way, and the plain step; steps return the loss before the update."""
    targets = made_up_targets(len(inputs.images), cfg, network.strides)
    targets = Targets(
        *(tuple(x.to(DEVICE) for x in part) for part in (targets.heatmaps, targets.masks)),
        *(x.to(DEVICE) for x in (targets.cells, targets.visible, targets.scales)),
    )

    def ours(way: Way) -> Callable[[], float]:
        """Return our training step."""
        own = copy.deepcopy(network)
        optimizer = torch.optim.Adam(own.parameters(), cfg.TRAIN.LR, fused=True)
        forward, criterion = way.ready(own), build_criterion(cfg)

        def step() -> float:
            with way.autocast():
                output = forward(normalize(inputs.images))
            loss = criterion(output, targets)["total"]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return float(loss.detach())

        return step

    own = copy.deepcopy(network)
    optimizer = torch.optim.Adam(own.parameters(), cfg.TRAIN.LR)
    criterion = PlainCriterion(build_criterion(cfg), targets)

    def plain() -> float:
        """Take the released program's training step."""
        output = own(inputs.normalized)
        with DEVICE:  # for the small tensors that the plain losses create
            loss = torch.stack(list(criterion(output).values())).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return ours, plain


class GivenOutput(nn.Module):
    """Runs a network, keeps its output as ``own``, and returns a given output instead."""

    def __init__(self, network: nn.Module, output: PoseOutput) -> None:
        super().__init__()
        self.network, self.output = network, output

    def forward(self, inputs: Tensor) -> PoseOutput:
        """Map (2B, 3, S, S), images before flipped images, to the given output."""
        self.own = self.network(inputs)
        return self.output


def tests(cfg: CfgNode, network: PoseNetwork, inputs: Inputs) -> tuple[Ours, Plain]:
    """Return a builder of our test of the batch by way, and the plain test; both return the network's own output."""
    network.eval()
    count, size = len(inputs.images), inputs.size
    crowd = made_up_crowd(cfg, count, network.strides)
    options = build_decode_options(cfg, load_schema(ROOT / "datasets/crowdpose.yaml"))

    def ours(way: Way) -> Callable[[], PoseOutput]:
        """Return our test of the batch."""
        how = PipelineOptions(NO_FLIP, options, precision=way.precision, fold_bn=True)
        pipeline = InferencePipeline(GivenOutput(copy.deepcopy(network), crowd).eval(), how)
        given = pipeline.network
        given.network = way.ready(given.network)
        geometries = [resize_geometry((size, size), size)] * count

        def test() -> PoseOutput:
            maps = pipeline.forward([inputs.images], (size, size))
            assert all(pipeline.decode(maps.cpu(), geometries))
            return given.own

        return test

    @torch.inference_mode()
    def plain() -> PoseOutput:
        """Test image by image as the released program does."""
        outputs = []
        geometry = resize_geometry((size, size), size)
        for number, image in enumerate(inputs.normalized):
            outputs += [network(image[None]), network(image[None].flip(-1))]
            both = []
            for place in (number, count + number):
                one = PoseOutput(tuple(h[place, None].cpu() for h in crowd.heatmaps), crowd.tags[place, None].cpu())
                both.append(MergedMaps(merge_resolutions(one), one.tags))
            maps = merge_flip(*both, NO_FLIP).image(0)
            assert decode_reference(maps, geometry.base_size, geometry.to_image(), options)
        outputs = outputs[0::2] + outputs[1::2]  # images before flipped images, as ours
        return PoseOutput(
            tuple(torch.cat(maps) for maps in zip(*(output.heatmaps for output in outputs), strict=True)),
            torch.cat([output.tags for output in outputs]),
        )

    return ours, plain


def on_host(value: Value) -> list[Tensor]:
    """Return a loss or an output in float32, copied: a CUDA graph overwrites its outputs."""
    parts = [torch.tensor([value])] if isinstance(value, float) else [value.tags, *value.heatmaps]
    return [part.float().cpu().clone() for part in parts]


def relative_difference(ours: Sequence[Tensor], plain: Sequence[Tensor]) -> float:
    """Return the largest difference, as a share of the largest value, two digits."""
    shares = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, plain, strict=True)]
    return float(f"{max(shares):.1e}")


def clock() -> float:
    """Return seconds: of this process on a processor, of the device's work on a GPU."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def timed(function: Callable[[], Value], runs: int) -> tuple[float, list[Tensor], float | None]:
    """Return the median milliseconds, the first call's value, and the peak of a GPU's memory in MB."""
    first = on_host(function())
    for _ in range(2 if DEVICE.type == "cuda" else 0):  # until graphs are recorded
        function()
    milliseconds = []
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(runs):
        start = clock()
        function()
        milliseconds.append(1000 * (clock() - start))
    peak = torch.cuda.max_memory_allocated() / 1e6 if DEVICE.type == "cuda" else None
    return statistics.median(milliseconds), first, peak


def measure(task: str, stem: str, images: int, options: list[str], ways: Sequence[Way], runs: int) -> list[Record]:
    """Time a network's training step or test, plain and in each way; print each as it comes."""
    cfg = load_config(ROOT / f"config/crowdpose/ce_{stem}.yaml", options)
    inputs = made_up_inputs(images, cfg.DATASET.INPUT_SIZE)
    network = made_up_network(cfg, inputs)
    ours, plain = (training_steps if task == "train" else tests)(cfg, network, inputs)
    plain_ms, expected, plain_mb = timed(plain, runs)
    records = []
    name = " ".join([stem, *options])
    for way in ways:
        case = f"{task} {name}, {images} images, {way.name}"
        try:
            ms, value, mb = timed(ours(way), runs)
        except RuntimeError as error:  # the compiler fails, or memory is too small
            print(f"{case}: {str(error).splitlines()[0]}", flush=True)
            continue
        difference = relative_difference(value, expected)
        memory = (None, None) if mb is None or plain_mb is None else (round(mb, 1), round(plain_mb, 1))
        records.append(Record(case, round(ms, 1), round(plain_ms, 1), round(plain_ms / ms, 2), difference, *memory))
        print(throughput(task, stem, images, ms, case, known=not options), flush=True)
    return records


def throughput(task: str, stem: str, images: int, milliseconds: float, case: str, known: bool) -> str:
    """Return a line of images per second and, on a GPU, the share of its peak that the network's work is."""
    rate = 1000 * images / milliseconds
    if DEVICE.type == "cpu" or not known:
        return f"{case}: {rate:.2f} images/s"
    passes = 3 if task == "train" else 2  # forward and twice as much backward; image and flipped image
    share = rate * passes * GFLOP[stem] / 1000 / H200_TFLOPS
    return f"{case}: {rate:.1f} images/s, {100 * share:.1f} % of the H200's bf16 peak"


def main() -> None:
    """Measure and print."""
    args = arguments(__doc__)
    torch.set_num_threads(1)
    if args.quick:
        narrow = ["MODEL.WIDTH", "8", "DATASET.INPUT_SIZE", "256"]
        cases = [(task, "hrhrnet_w32_512", 2, narrow) for task in ("train", "test")]
    elif DEVICE.type == "cpu":
        cases = [(task, stem, 2, []) for stem in ("hrhrnet_w32_512", "hrnet_w32_512") for task in ("train", "test")]
    else:
        cases = [
            (task, stem, (16 if "512" in stem else 10) if task == "train" else 8, [])
            for stem in GFLOP
            for task in ("train", "test")
        ]
    ways, runs = (ON_PROCESSOR, 2) if DEVICE.type == "cpu" else (ON_GPU, 10)
    records = []
    for case in cases:
        records += measure(*case, ways, runs)
    print()
    report(records, args.json)


if __name__ == "__main__":
    main()
