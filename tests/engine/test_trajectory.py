"""Twelve full training steps in float64 against the released program's recording."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from named_weights import weight_from_name

from coupled_embedding.data.targets import Targets
from coupled_embedding.losses.criterion import PoseCriterion
from coupled_embedding.losses.heatmap import HeatmapLoss
from coupled_embedding.networks.hrnet import HRNetSettings
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.optim.schedule import Schedule

NAMES = {"total": "total", "hms_loss": "heatmap", "pull_loss": "pull", "push_loss": "push", "scale_loss": "coupling"}


def recorded_weights(network: torch.nn.Module) -> None:
    """Fill a network by the rule of the reference's README: from each key's name."""
    for key, tensor in network.state_dict().items():
        tensor.copy_(weight_from_name(key, tuple(tensor.shape)))


def recorded_batch(folder: Path, samples: list[str]) -> tuple[torch.Tensor, Targets]:
    """Stack the recorded samples: normalized images and their targets, in float64."""
    archives = [np.load(folder / f"{name}.npz", allow_pickle=False) for name in samples]

    def stack(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([archive[name] for archive in archives]))

    heatmaps, masks = [[stack(f"out_{kind}_{i}").double() for i in range(2)] for kind in ("heatmaps", "masks")]
    cells, visible = joint_slots(stack("out_joints_0").long(), *heatmaps[0].shape[-2:])
    return stack("out_image").double(), Targets(
        tuple(heatmaps), tuple(masks), cells, visible, stack("out_box_scales").double()
    )


def joint_slots(encoded: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn recorded (index, visible) lists into one slot a joint."""
    batch, people, joints, _ = encoded.shape
    cells = torch.zeros(batch, people, joints, 2, dtype=torch.long)
    visible = torch.zeros(batch, people, joints, dtype=torch.bool)
    for image, person, entry in (encoded[..., 1] > 0).nonzero().tolist():
        joint, place = divmod(int(encoded[image, person, entry, 0]), height * width)
        cells[image, person, joint] = torch.tensor([place % width, place // width])
        visible[image, person, joint] = True
    return cells, visible


@pytest.mark.reference
def test_twelve_steps_follow_the_recording(reference_dir: Path) -> None:
    recording = json.loads((reference_dir / "parity/trajectory.json").read_text())
    network = PoseNetwork(recording["joints"], 8, HRNetSettings(32), "higher").train()
    recorded_weights(network)
    network.double()
    images, targets = recorded_batch(reference_dir / "parity", recording["samples"])
    criterion = PoseCriterion(HeatmapLoss(beta=0.55))
    optimizer = torch.optim.Adam(network.parameters(), recording["base_lr"], fused=True)
    schedule = Schedule(
        recording["base_lr"],
        recording["warmup_iters"],
        recording["warmup_ratio"],
        recording["milestones_in_iterations"],
        recording["gamma"],
    )
    assert len(recording["steps"]) == 12
    for step in recording["steps"]:
        rate = schedule(step["iteration"])
        assert rate == pytest.approx(step["learning_rate"], rel=1e-12)
        for group in optimizer.param_groups:
            group["lr"] = rate
        losses = criterion(network(images), targets)
        for recorded, name in NAMES.items():
            tolerance = 1e-5 if name == "push" else 1e-6
            assert losses[name].item() == pytest.approx(step[recorded], rel=tolerance), (step, name)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    check_probes(network, recording)


def check_probes(network: torch.nn.Module, recording: dict) -> None:
    state = network.state_dict()
    probes = {
        key: value for part in ("final_parameters", "final_buffers") for key, value in recording.get(part, {}).items()
    }
    assert probes
    for key, probe in probes.items():
        tensor = state[key].double()
        assert tensor.mean().item() == pytest.approx(probe["mean"], rel=1e-5, abs=1e-9), key
        assert tensor.std().item() == pytest.approx(probe["std"], rel=1e-5, abs=1e-9), key
        first = np.asarray(probe["first"])
        assert tensor.flatten()[: first.size].numpy() == pytest.approx(first, rel=1e-5, abs=1e-9), key
