"""Time training steps and tests of whole networks against float32, NCHW, loop losses and the plain decode.

python benchmarks/network.py [--quick] [--only TEXT] [--json PATH]

Ours: channels-last, fused Adam, our losses; batch norm folded and our decode in tests. On a processor in float32 and
bf16. On a GPU in bf16, also compiled and with CUDA graphs; and trained on all GPUs, each with a batch of its own, with
and without synchronized batch norm (with --quick on a processor: two ranks of a toy). "10 images × 2" are two passes of
10 images a step. Calls follow each other without waiting for the device, unless what is timed waits itself. Memory is
the peak of the first GPU, on which there is nothing but the case; utilization is of the card's bf16 peak, "-" where
that is unknown; several ranks are timed by the wall clock. The largest difference is relative: of a training's first
loss, or of a test's heatmaps and tags to the largest of them. All ranks get the same images, so that their loss is the
plain one's. Weights are random, which amplifies rounding (float32 is itself 1e-5 off float64), and which is why a test
decodes a crowd's made-up maps instead of the network's. Loading images and building targets are not timed.
"""

import gc
import os
import pickle
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from multiprocessing.queues import SimpleQueue

import torch
import torch._dynamo
import torch.distributed as dist
import torch.multiprocessing as mp
from common import ROOT, Record, argument_parser, report
from made_up import DEVICE, JOINTS, Inputs, made_up_crowd, made_up_inputs, made_up_network, made_up_targets
from torch import Tensor, nn
from torch._dynamo.exc import FailOnRecompileLimitHit
from torch.nn.parallel import DistributedDataParallel
from yacs.config import CfgNode

from coupled_embedding.builders import build_criterion, build_decode_options, build_model
from coupled_embedding.config import load_config
from coupled_embedding.data.geometry import resize_geometry
from coupled_embedding.data.images import normalize
from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.data.schema import load_schema
from coupled_embedding.data.targets import Targets
from coupled_embedding.decode.aggregate import MergedMaps, merge_flip, merge_resolutions
from coupled_embedding.decode.options import DecodeOptions
from coupled_embedding.decode.pipeline import InferencePipeline, PipelineOptions
from coupled_embedding.decode.reference import decode_reference
from coupled_embedding.engine.parallel import distribute, place, tuned_convolutions
from coupled_embedding.networks.building import build_on_meta
from coupled_embedding.networks.pose_network import PRECISIONS, PoseNetwork
from coupled_embedding.utils.distributed import DistEnv, process_group
from coupled_embedding.zoo.cost import forward_gflop
from losses import PlainCriterion

NO_FLIP = tuple(range(JOINTS))  # the made-up flipped maps keep their joints
TASKS = ("train", "test")
NETWORKS = ("hrnet_w32_512", "hrhrnet_w32_512", "hrnet_w48_640", "hrhrnet_w48_640")
# 10^12 operations a second in bf16, dense, by their maker's data sheets; the first name that a card's contains counts
PEAKS = {
    "H200 NVL": 835.0,
    "H200": 989.0,
    "H100 NVL": 835.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
}
# options of smaller networks; compilers need a quarter of a minute for the toy's few layers
SIZES = {
    "full": "",
    "narrow": "MODEL.WIDTH 8 DATASET.INPUT_SIZE 256",
    "toy": "MODEL.BACKBONE hourglass MODEL.HEAD plain MODEL.STACKS 1 MODEL.HOURGLASS_DEPTH 1 MODEL.WIDTH 8 "
    "MODEL.PRETRAINED '' DATASET.INPUT_SIZE 128",
}
COMPILED = {"default": "torch.compile", "reduce-overhead": "torch.compile with CUDA graphs"}
Value = Tensor | PoseOutput  # a training step's loss, a test's output


@dataclass(frozen=True)
class Timing:
    """Milliseconds a call, the first call's value, and the peak of a GPU's memory in MB."""

    ms: float
    first: list[Tensor]
    mb: float | None


@dataclass(frozen=True)
class Case:
    """What is timed: a ``"train"`` step or a ``"test"`` of images with the network of a config."""

    task: str
    stem: str
    images: int
    passes: int = 1  # in a training step, of `images` images each
    size: str = "full"

    def __str__(self) -> str:
        size = f" ({self.size})" if self.size != "full" else ""
        accumulated = f" × {self.passes}" if self.passes > 1 else ""
        return f"{self.task} {self.stem}{size}, {self.images} images{accumulated}"

    @property
    def cfg(self) -> CfgNode:
        """The config."""
        return load_config(ROOT / f"config/crowdpose/ce_{self.stem}.yaml", SIZES[self.size].split())

    def made_up(self) -> tuple[CfgNode, Inputs, PoseNetwork]:
        """Return the config, a batch, and a network that is the same each time."""
        inputs = made_up_inputs(self.images, self.cfg.DATASET.INPUT_SIZE)
        return self.cfg, inputs, made_up_network(self.cfg, inputs)

    def tflop(self) -> float:
        """Return 10^12 operations of the network for a rank's images."""
        cfg = self.cfg
        network = build_on_meta(partial(build_model, cfg, JOINTS))
        # forward and twice as much backward; or image and flipped image
        times = 3 * self.passes if self.task == "train" else 2
        return forward_gflop(network, cfg.DATASET.INPUT_SIZE) * self.images * times / 1000


@dataclass(frozen=True)
class Way:
    """How ours runs: the network's precision, ``torch.compile``'s mode (None for eager), and on how many ranks."""

    precision: str
    compile_mode: str | None = None
    ranks: int = 1
    sync_bn: bool = False

    def __str__(self) -> str:
        parts = ["float32" if self.precision == "fp32" else self.precision]
        parts += [f"{self.ranks} ranks"] if self.ranks > 1 else []
        parts += ["synchronized BN"] if self.sync_bn else []
        return ", ".join(parts + ([COMPILED[self.compile_mode]] if self.compile_mode else []))

    def ready(self, network: PoseNetwork, env: DistEnv, images: int) -> nn.Module:
        """Return what a forward pass calls."""
        network = place(network, env, channels_last=True, sync_bn=self.sync_bn)
        if self.compile_mode == "reduce-overhead":
            return torch.compile(network, mode=self.compile_mode)
        return distribute(network, env, images if self.compile_mode else 0)

    def autocast(self) -> torch.autocast:
        """Return the context of a forward pass."""
        precision = PRECISIONS.get(self.precision)
        return torch.autocast(DEVICE.type, precision, enabled=precision is not None)


def on_ranks(precision: str, ranks: int) -> list[Way]:
    """Return the ways of several ranks, none where there are no several."""
    both = (False, True)
    return [Way(precision, mode, ranks, sync) for sync in both for mode in (None, "default") if ranks > 1]


# ---- training


def targets_on_device(case: Case, cfg: CfgNode, network: PoseNetwork) -> Targets:
    """Return made-up targets of a batch."""
    targets = made_up_targets(case.images, cfg, network.strides)
    return Targets(
        *(tuple(x.to(DEVICE) for x in part) for part in (targets.heatmaps, targets.masks)),
        *(x.to(DEVICE) for x in (targets.cells, targets.visible, targets.scales)),
    )


def our_training(case: Case, way: Way, env: DistEnv) -> Callable[[], Tensor]:
    """Return our training step, which returns the loss before the update."""
    cfg, inputs, network = case.made_up()
    criterion, targets = build_criterion(cfg), targets_on_device(case, cfg, network)
    model = way.ready(network, env, case.images)
    optimizer = torch.optim.Adam(network.parameters(), cfg.TRAIN.LR, fused=True)

    def step() -> Tensor:
        for number in range(case.passes):
            alone = number < case.passes - 1 and isinstance(model, DistributedDataParallel)
            with model.no_sync() if alone else nullcontext():
                with way.autocast():
                    output = model(normalize(inputs.images))
                loss = criterion(output, targets)["total"]
                (loss / case.passes).backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def plain_training(case: Case) -> Callable[[], Tensor]:
    """Return the released program's training step."""
    cfg, inputs, network = case.made_up()
    criterion = PlainCriterion(build_criterion(cfg), targets_on_device(case, cfg, network))
    optimizer = torch.optim.Adam(network.parameters(), cfg.TRAIN.LR)

    def step() -> Tensor:
        for _ in range(case.passes):
            output = network(inputs.normalized)
            with DEVICE:  # for the small tensors that the plain losses create
                loss = torch.stack(list(criterion(output).values())).sum()
            (loss / case.passes).backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


# ---- tests


class GivenOutput(nn.Module):
    """Runs a network, keeps its output as ``own``, and returns a given output instead."""

    def __init__(self, network: nn.Module, output: PoseOutput) -> None:
        super().__init__()
        self.network, self.output = network, output

    def forward(self, inputs: Tensor) -> PoseOutput:
        """Map (2B, 3, S, S), images before flipped images, to the given output."""
        self.own = self.network(inputs)
        return self.output


def our_test(case: Case, way: Way, env: DistEnv) -> Callable[[], PoseOutput]:
    """Return our test of the batch, which returns the network's own output."""
    cfg, inputs, network = case.made_up()
    crowd = made_up_crowd(cfg, case.images, network.strides)
    how = PipelineOptions(NO_FLIP, decode_options(cfg), precision=way.precision, fold_bn=True)
    pipeline = InferencePipeline(GivenOutput(network.eval(), crowd).eval(), how)
    given = pipeline.network
    given.network = way.ready(given.network, env, 2 * case.images)
    size = (inputs.size, inputs.size)
    geometries = [resize_geometry(size, inputs.size)] * case.images

    def test() -> PoseOutput:
        maps = pipeline.forward([inputs.images], size)
        assert all(pipeline.decode(maps.cpu(), geometries))
        return given.own

    return test


def plain_test(case: Case) -> Callable[[], PoseOutput]:
    """Return the released program's test, image by image."""
    cfg, inputs, network = case.made_up()
    network.eval()
    crowd, options = made_up_crowd(cfg, case.images, network.strides), decode_options(cfg)
    geometry = resize_geometry((inputs.size, inputs.size), inputs.size)

    @torch.inference_mode()
    def test() -> PoseOutput:
        outputs = []
        for number, image in enumerate(inputs.normalized):
            outputs += [network(image[None]), network(image[None].flip(-1))]
            both = []
            for index in (number, case.images + number):
                one = PoseOutput(tuple(h[index, None].cpu() for h in crowd.heatmaps), crowd.tags[index, None].cpu())
                both.append(MergedMaps(merge_resolutions(one), one.tags))
            maps = merge_flip(*both, NO_FLIP).image(0)
            assert decode_reference(maps, geometry.base_size, geometry.to_image(), options)
        outputs = outputs[0::2] + outputs[1::2]  # images before flipped images, as ours
        return PoseOutput(
            tuple(torch.cat(maps) for maps in zip(*(output.heatmaps for output in outputs), strict=True)),
            torch.cat([output.tags for output in outputs]),
        )

    return test


def decode_options(cfg: CfgNode) -> DecodeOptions:
    """Return how CrowdPose's maps are decoded."""
    return build_decode_options(cfg, load_schema(ROOT / "datasets/crowdpose.yaml"))


# ---- both


def on_host(value: Value) -> list[Tensor]:
    """Return a loss or an output in float32, copied: a CUDA graph overwrites its outputs."""
    parts = [value] if isinstance(value, Tensor) else [value.tags, *value.heatmaps]
    return [part.float().cpu().clone() for part in parts]


def relative_difference(ours: Sequence[Tensor], plain: Sequence[Tensor]) -> float:
    """Return the largest difference, as a share of the largest value, two digits."""
    shares = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, plain, strict=True)]
    return float(f"{max(shares):.1e}")


def clock() -> float:
    """Return seconds: of this process on a processor, of the device's work on a GPU."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() if DEVICE.type == "cuda" or dist.is_initialized() else time.process_time()


def timed(build: Callable[[], Callable[[], Value]], runs: int) -> Timing:
    """Time calls of the function that is built, which are enqueued one after the other."""
    on_gpu = DEVICE.type == "cuda"
    # earlier cases' graphs would count against this one's limit, beyond which networks run eagerly without a word
    torch._dynamo.reset()
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    gc.collect()
    torch.cuda.empty_cache()
    function = build()
    first = on_host(function())
    with tuned_convolutions(True):  # as training does
        for _ in range(3 if on_gpu else 0):  # until graphs are recorded
            function()
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        start = clock()
        for _ in range(runs):
            function()
        milliseconds = 1000 * (clock() - start) / runs
    return Timing(milliseconds, first, round(torch.cuda.max_memory_allocated() / 1e6, 1) if on_gpu else None)


def time_plain(case: Case, runs: int) -> Timing:
    """Time the released program's way."""
    return timed(partial(plain_training if case.task == "train" else plain_test, case), runs)


def time_ours(case: Case, way: Way, runs: int) -> Timing:
    """Time ours; of several ranks, the first one's time."""
    if way.ranks == 1:
        build = our_training if case.task == "train" else our_test
        return timed(partial(build, case, way, DistEnv(0, 1, DEVICE)), runs)
    # where the ranks meet; it ends with this call
    torch._dynamo.reset()
    gc.collect()
    torch.cuda.empty_cache()  # for the ranks
    store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    timings = mp.get_context("spawn").SimpleQueue()
    mp.spawn(time_rank, (store.port, timings, case, way, runs), way.ranks)
    return pickle.loads(timings.get())


def time_rank(rank: int, port: int, timings: SimpleQueue, case: Case, way: Way, runs: int) -> None:
    """Time a training step of several ranks in one of them."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": way.ranks, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()}, TORCHELASTIC_USE_AGENT_STORE="True")
    torch.set_num_threads(1)
    with process_group(DEVICE.type) as env:
        timing = timed(partial(our_training, case, way, env), runs)
        if env.is_rank0:
            timings.put(pickle.dumps(timing))


def measure(case: Case, ways: Sequence[Way], runs: int) -> list[Record]:
    """Time a network's training step or test, plain and in each way; print each as it comes."""
    plain = attempt(f"{case}, plain", lambda: time_plain(case, runs))
    records = []
    for way in ways if plain else ():
        name = f"{case}, {way}"
        ours = attempt(name, lambda way=way: time_ours(case, way, runs))
        if ours:
            difference = relative_difference(ours.first, plain.first)
            ratio = round(plain.ms / ours.ms, 2)
            records.append(Record(name, round(ours.ms, 1), round(plain.ms, 1), ratio, difference, ours.mb, plain.mb))
            rate = 1000 * case.images * case.passes * way.ranks / ours.ms
            print(f"{name}: {rate:.4g} images/s, utilization {utilization(case, ours.ms)}", flush=True)
    return records


def attempt(name: str, time_it: Callable[[], Timing]) -> Timing | None:
    """Return a timing; None, with the reason printed, if the compiler fails or memory is too small."""
    try:
        return time_it()
    except (RuntimeError, FailOnRecompileLimitHit) as error:
        print(f"{name}: {str(error).splitlines()[0]}", flush=True)
    except (mp.ProcessRaisedException, mp.ProcessExitedException) as error:
        print(f"{name}: {str(error).strip().splitlines()[-1]}", flush=True)  # after the rank's traceback
    return None


def utilization(case: Case, milliseconds: float) -> str:
    """Return the share of a card's peak that the network's operations are, "-" where the peak is not known."""
    card = torch.cuda.get_device_name() if DEVICE.type == "cuda" else ""
    peak = next((peak for name, peak in PEAKS.items() if name in card), None)
    return f"{case.tflop() / (milliseconds / 1000) / peak:.1%} of {peak:g} TFLOP/s" if peak else "-"


def processor_cases(quick: bool) -> list[tuple[Case, Sequence[Way]]]:
    """Return what is timed on a processor, and in which ways."""
    ways = (Way("fp32"), Way("bf16"))
    if not quick:
        return [(Case(task, stem, 2), ways) for stem in ("hrhrnet_w32_512", "hrnet_w32_512") for task in TASKS]
    toy_ways = (Way("fp32"), Way("fp32", "default"), *on_ranks("fp32", 2))
    toys = [Case("train", "hrhrnet_w32_512", *sizes, "toy") for sizes in ((2, 2), (4, 1))]
    narrow = [Case(task, "hrhrnet_w32_512", 2, size="narrow") for task in TASKS]
    return [(case, ways) for case in narrow] + [(case, toy_ways) for case in toys]


def gpu_cases(quick: bool) -> list[tuple[Case, Sequence[Way]]]:
    """Return what is timed on GPUs, and in which ways."""
    eager, compiled, graphs = (Way("bf16", mode) for mode in (None, *COMPILED))
    several = on_ranks("bf16", torch.cuda.device_count())
    training, tests = [eager, compiled, graphs, *several], [eager, compiled, graphs]
    if quick:
        return [
            (Case("train", "hrhrnet_w32_512", 2, size="narrow"), training),
            (Case("test", "hrhrnet_w32_512", 2, size="narrow"), tests),
        ]
    cases: list[tuple[Case, Sequence[Way]]] = []
    for sizes in ((10, 2), (20, 1)):  # without graphs: the second pass would overwrite the gradients of the first
        cases.append((Case("train", "hrhrnet_w32_512", *sizes), [eager, compiled, *several]))
    for stem in NETWORKS:
        cases.append((Case("train", stem, 16 if "512" in stem else 10), training))
        cases.append((Case("test", stem, 8), tests))
    return cases


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name has this text in it")
    args = parser.parse_args()
    torch.set_num_threads(1)
    on_gpu = DEVICE.type == "cuda"
    cases = (gpu_cases if on_gpu else processor_cases)(args.quick)
    records = []
    for case, ways in [(case, ways) for case, ways in cases if args.only in str(case)]:
        records += measure(case, ways, runs=20 if on_gpu else 2)
    print()
    report(records, args.json)


if __name__ == "__main__":
    main()
