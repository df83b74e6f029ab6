"""How maps become poses, and whose decode that is."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.pafs import Limbs


@dataclass(frozen=True)
class PeakOptions:
    """Which local maxima become candidates.

    Attributes:
        kernel: window of the search, odd, in input pixels.
        max_candidates: candidates of a joint at most.
        threshold: scores must exceed it.
        dedup_plateaus: keep only the first pixel of a flat top; False: each of its pixels, as the paper's program.
        tie_order: order of equal scores: ``"topk"``, as `torch.topk` on the CPU, or ``"rows"``: by rows.
    """

    kernel: int = 5
    max_candidates: int = 30
    threshold: float = 0.1
    dedup_plateaus: bool = False
    tie_order: str = "topk"


@dataclass(frozen=True)
class CostRule:
    """The cost of a pair: ``step`` · distance, rounded or not, − score.

    Attributes:
        step: cost of a unit of rounded distance.
        max_rounded_distance: the largest (rounded) distance that is not given `invalid_cost`.
        invalid_cost: cost of any farther pair, and of columns that belong to no person.
        dtype: in which distances and costs are computed, which decides ties.
        rounded: whether distances are rounded to whole numbers of thresholds.
    """

    step: float
    max_rounded_distance: float
    invalid_cost: float
    dtype: type[np.floating]
    rounded: bool = True


COST_RULES = {
    "ce": CostRule(1.0, 1.0, 1e5, np.float32),  # coupled embedding
    "ae": CostRule(100.0, np.inf, 1e10, np.float64),  # associative embedding and HigherHRNet
    "distance": CostRule(2.0, 1.0, 1e5, np.float64, rounded=False),  # nearer tags win
}


@dataclass(frozen=True)
class PafRule:
    """How part affinity fields connect candidates, and which people remain.

    Attributes:
        samples: of the field on a segment between two candidates; 2 or more; 0: √(5 · the longer side) of 5 to 25.
        sample_threshold: of the field along the segment, which a sample passes above it.
        share: of the samples, more than which must pass; −1: none needs to.
        mean_of_passing: whether the score is the mean of the samples that pass; False: of all.
        line_score: which a connection must exceed.
        height_prior: whether long segments lose: min(0.5 · input height / length − 1, 0) is added.
        longest: share of the input's longer side above which min(1 − length / longest, 0) is added; 0: none.
        min_joints: people with fewer are dropped.
        min_score: people with less a joint, joints' and connections' scores together, are dropped.
        matching: of a limb's candidates: ``"greedy"`` by score or ``"hungarian"``: the largest sum.
        tag_weight: how much tags say beside the field: tag_weight · max(1 − tag distance / tag_threshold, −1) is added.
        tag_threshold: tag distance that counts as 1; `DecodeOptions` has one of its own.
        singles: whether a candidate that no person got is a person of one joint, whose others its tag looks up.
    """

    samples: int = 10
    sample_threshold: float = 0.05
    share: float = 0.8
    mean_of_passing: bool = True
    line_score: float = 0.0
    height_prior: bool = True
    longest: float = 0.0
    min_joints: int = 4
    min_score: float = 0.4
    matching: str = "greedy"
    tag_weight: float = 0.0
    tag_threshold: float = 1.0
    singles: bool = False

    def prior(self, lengths: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
        """Return what is added to the scores of segments of these lengths, in pixels of an input of (H, W)."""
        lengths = np.maximum(lengths, 1e-6)
        total = np.minimum(0.5 * size[0] / lengths - 1, 0) if self.height_prior else np.zeros(lengths.shape)
        return total + (np.minimum(1 - lengths / (self.longest * max(size)), 0) if self.longest else 0)


# TEST.PAF_PRESET: whose rule
PAF_PRESETS = {
    "paper": PafRule(),  # its evaluation in MATLAB
    "openpose": PafRule(samples=0, share=0.95, height_prior=False, min_joints=3),
    "openpose_coco": PafRule(
        samples=0, sample_threshold=0.01, share=0.75, height_prior=False, min_joints=2, min_score=0.05
    ),
    "sleap": PafRule(
        sample_threshold=-np.inf, share=-1.0, mean_of_passing=False, line_score=0.25, height_prior=False,
        longest=0.25, min_joints=1, min_score=0.0, matching="hungarian",
    ),
    # this project's: fields and tags together
    "with_tags": PafRule(
        sample_threshold=-np.inf, share=-1.0, mean_of_passing=False, line_score=0.2, height_prior=False,
        min_joints=1, min_score=0.0, tag_weight=0.3, singles=True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class CenterRule:
    """How people are found by their centers.

    Attributes:
        threshold: of a center's score, which must exceed it.
        reach: share of the longer side of the extent of a person's predicted joints: at that distance from where it is
            predicted, a joint's heatmap counts half.
        max_people: of an image, the best ones.
    """

    threshold: float = 0.02
    reach: float = 0.1
    max_people: int = 30


@dataclass(frozen=True)
class DecodeOptions:
    """How maps become poses; the defaults are the paper's for w32.

    Attributes:
        grouping_order: joint numbers in the order in which grouping visits them.
        peaks: which local maxima become candidates.
        tag_threshold: tag distance that counts as 1; at or above it no candidate joins a person.
        assignment: among equal costs: ``"munkres"``: the choice of munkres 1.1.4; ``"scipy"``: the nearer tag.
        refine: missing joints: ``"none"``: left missing; ``"fast"`` or ``"reference"``: looked up, with equal results.
        missing_joints: where joints without a positive score go: ``"origin"``: (0, 0), keeping their score;
            ``"zero"``: there, with score 0; ``"guess"``: where refinement looked them up, else the middle of the
            person's joints.
        cost: a key of `COST_RULES`.
        max_joined: only the first N people, in the order in which they were started, can be joined; 0: all.
        regroup: passes of `regroup` after grouping.
        limbs: of part affinity fields.
        paf: how these group candidates; None: tags group them.
        centers: how people are found by their centers, before anything above; None: they are not.
    """

    grouping_order: tuple[int, ...]
    peaks: PeakOptions = field(default_factory=PeakOptions)
    tag_threshold: float = 1.0
    assignment: str = "munkres"
    refine: str = "fast"
    missing_joints: str = "origin"
    cost: str = "ce"
    max_joined: int = 0
    regroup: int = 0
    limbs: Limbs = ()
    paf: PafRule | None = None
    centers: CenterRule | None = None

    @property
    def cost_rule(self) -> CostRule:
        """The rule by name."""
        return COST_RULES[self.cost]

    @property
    def joint_threshold(self) -> float:
        """The score above which a joint counts as found."""
        return self.peaks.threshold


# TEST.COMPAT: whose decode. The released programs' faults decide published figures: a flat top gives several
# candidates, and a missing joint at (0, 0) enlarges the person's box
PRESETS: dict[str, dict[str, Any]] = {
    "released": {
        "cost": "ce", "max_joined": 0, "assignment": "munkres", "dedup_plateaus": False, "tie_order": "topk",
        "missing_joints": "origin",
    },
    "higherhrnet": {
        "cost": "ae", "max_joined": 30, "assignment": "munkres", "dedup_plateaus": False, "tie_order": "topk",
        "missing_joints": "zero",
    },
    "clean": {
        "cost": "ce", "max_joined": 0, "assignment": "scipy", "dedup_plateaus": True, "tie_order": "rows",
        "missing_joints": "guess",
    },
}  # fmt: skip


def with_preset(options: DecodeOptions, name: str, **overrides: Any) -> DecodeOptions:
    """Return options as a preset has them.

    Args:
        options: what no preset sets is taken from here.
        name: a key of `PRESETS`.
        overrides: single values over the preset's, by the names there; None: the preset's.

    >>> with_preset(DecodeOptions(grouping_order=(0, 1)), "clean", assignment="munkres").missing_joints
    'guess'
    """
    chosen = PRESETS[name] | {key: value for key, value in overrides.items() if value is not None}
    peaks = replace(options.peaks, dedup_plateaus=chosen.pop("dedup_plateaus"), tie_order=chosen.pop("tie_order"))
    return replace(options, peaks=peaks, **chosen)
