"""Copy-paste: hidden joints, boxes and places against the pixels of the result; flips, reductions, fields."""

from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from cutout_files import FLIP_INDEX, JOINTS, person, rectangle, write_cutouts
from hypothesis import given
from hypothesis import strategies as st

from coupled_embedding.data.copy_paste import CopyPaste, CutoutSource
from coupled_embedding.data.records import ImageRecord

SIZE = (160, 120)  # width, height of the image
BLACK = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
SEEDS = st.integers(0, 2**32)


def record_of(keypoints=(), boxes=(), size=SIZE, **fields):
    people = np.array(keypoints, np.float32).reshape(-1, len(JOINTS), 3)
    return ImageRecord(1, Path("image.png"), *size, people, np.array(boxes, np.float32).reshape(-1, 4), **fields)


@pytest.fixture(scope="module")
def letter(tmp_path_factory):
    """A white L on green, with a joint at each end and one outside the mask."""
    _, mask = rectangle((40, 80), (4, 6, 10, 68))
    mask[60:74, 4:34] = 255
    pixels = np.where(mask[..., None] > 0, 255, (0, 255, 0)).astype(np.uint8)
    keypoints = [(9, 10, 2), (30, 67, 2), (9, 67, 1)]
    path = tmp_path_factory.mktemp("letter") / "people.json"
    return CutoutSource(write_cutouts(path, [person(pixels, mask, keypoints)]), JOINTS)


@pytest.fixture(scope="module")
def colored(tmp_path_factory):
    """A blue, a green and a red rectangle, whose confidences name the color's channel."""
    people = []
    for channel in range(3):
        color = [0, 0, 0]
        color[channel] = 255
        people.append(person(*rectangle(color=tuple(color)), scores=[channel / 2] * 3))
    return CutoutSource(write_cutouts(tmp_path_factory.mktemp("colored") / "people.json", people), JOINTS)


def paste_of(source, most=1, size=(0.3, 0.9), rotation=0.0, probability=1.0):
    return CopyPaste(source, FLIP_INDEX, probability, most, size, rotation)


def run(paste, seed, record=None, pixels=BLACK, reduction=1):
    record = record_of() if record is None else record
    return paste(np.random.default_rng(seed), record, pixels, reduction)


def around(pixels, joint):
    """Return the channel values in the 5 × 5 pixels around a joint; empty if it is not inside."""
    x, y = (int(v) for v in np.rint(joint[:2]))
    inside = 0 <= x < pixels.shape[1] and 0 <= y < pixels.shape[0]
    return pixels[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] if inside else pixels[:0]


def test_joints_are_hidden_where_the_pixels_are_covered(letter):
    hidden = shown = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        size, places = rng.uniform(0.2, 1.5), rng.uniform(0, np.array(SIZE) - 1, (20, 3, 2))
        keypoints = np.concatenate((places, rng.integers(0, 3, (20, 3, 1))), 2)
        before = record_of(keypoints, np.tile((10, 10, 60, 90), (20, 1)))
        after, pixels = run(paste_of(letter, size=(size, size), rotation=180), seed, before)
        for old, new in zip(before.keypoints.reshape(-1, 3), after.keypoints[:20].reshape(-1, 3), strict=True):
            np.testing.assert_array_equal(new[:2], old[:2])
            values = around(pixels, old)
            if (values > 250).all():
                assert new[2] == min(old[2], 1)
                hidden += old[2] == 2
            elif (values == 0).all():
                assert new[2] == old[2]
                shown += old[2] == 2
        np.testing.assert_array_equal(after.boxes[:20], before.boxes)
    assert min(hidden, shown) > 40


@given(seed=SEEDS, size=st.floats(0.2, 1.5), rotation=st.floats(0, 180))
def test_pasted_people_are_where_their_pixels_are(letter, seed, size, rotation):
    after, pixels = run(paste_of(letter, size=(size, size), rotation=rotation), seed)
    assert len(after.keypoints) <= 1
    for (x, y, width, height), joints, area in zip(after.boxes, after.keypoints, after.areas, strict=True):
        box, inwards = np.array([x, y, x + width, y + height]), np.array([1, 1, -1, -1])
        # edges are soft: what is more than half covered is in the box, and the box is where something is drawn; of a
        # person beyond the border less than a pixel of the cut-out may be visible
        bright = pixels[..., 1] > 127
        bright[[0, -1]] = bright[:, [0, -1]] = False
        touched = pixels[..., 1] > 0
        assert ((box - corners_of(bright)) * inwards).max() < 1
        assert ((corners_of(touched) - box) * inwards).max() < 1
        assert bright.sum() / 1.1 < area < touched.sum() * 1.1
        assert area >= 0.49 * mask_area(letter) * min(size * SIZE[1] / 68, 2) ** 2
        for joint in joints:
            if joint[2]:
                assert 0 <= joint[0] + 0.5 <= SIZE[0]
                assert 0 <= joint[1] + 0.5 <= SIZE[1]
                assert around(pixels, joint).max() > 127
            else:
                np.testing.assert_array_equal(joint, 0)


@pytest.mark.parametrize(("shape", "size"), [((31, 61), (0.05, 0.3)), ((30, 60), (0.3, 0.6)), ((17, 24), (0.2, 0.3))])
def test_joints_are_where_they_are_drawn(tmp_path, shape, size):
    middle = ((shape[0] - 1) / 2, (shape[1] - 1) / 2, 2)
    people = [person(*rectangle(shape, color=(80, 160, 240)), [middle] * 3)]
    source = CutoutSource(write_cutouts(tmp_path / "people.json", people), JOINTS)
    differences = []
    for seed in range(60):
        after, pixels = run(paste_of(source, size=size, rotation=180), seed)
        x, y, width, height = after.boxes[0]
        if min(x, y, SIZE[0] - x - width, SIZE[1] - y - height) > 2:
            rows, columns = np.indices(SIZE[::-1])
            center = [np.average(at, weights=pixels[..., 2]) for at in (columns, rows)]
            differences.append(after.keypoints[0, :, :2] - center)
    assert len(differences) > 15
    # bilinear weights have steps of 1/32; half a pixel would be a wrong convention
    np.testing.assert_allclose(differences, 0, atol=0.15)
    np.testing.assert_allclose(np.mean(differences, 0), 0, atol=0.03)


def corners_of(mask):
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return np.array([left, top, left + width, top + height])


def mask_area(source):
    return (source.load(0).mask > 0).sum()


@given(seed=SEEDS)
def test_joints_inside_the_image_keep_their_labels(letter, seed):
    large = np.zeros((400, 400, 3), np.uint8)
    after, _ = run(paste_of(letter, size=(0.1, 0.1)), seed, record_of(size=(400, 400)), large)
    x, y, width, height = after.boxes[0]
    if min(x, y, 398 - x - width, 398 - y - height) > 2:
        # the third joint is hidden in the cut-out already; a flip makes it the second
        assert after.keypoints[0, :, 2].tolist() in ([2, 2, 1], [2, 1, 2])


def test_later_people_hide_earlier_ones(colored):
    empty = record_of(confidence=np.zeros((0, 3), np.float32))
    hidden = 0
    for seed in range(40):
        after, pixels = run(paste_of(colored, most=6, size=(0.5, 1.0), rotation=20), seed, empty)
        assert after.confidence.shape == after.keypoints.shape[:2]
        for joints, confidence in zip(after.keypoints, after.confidence, strict=True):
            for joint in joints[joints[:, 2] > 0]:
                values = around(pixels, joint).reshape(-1, 3)
                # well inside of one person, of another color than this one's: it is another person
                if values.min(0).max() > 250 and values[0].argmax() != round(2 * confidence[0]):
                    assert joint[2] == 1
                    hidden += 1
        assert not (after.keypoints[-1:, :, 2] == 1).any()
    assert hidden > 20


def test_a_flip_swaps_joints_and_their_confidence(tmp_path):
    pixels, mask = rectangle()
    pixels[:, :15], pixels[:, 15:] = (255, 0, 0), (0, 0, 255)
    people = [person(pixels, mask, scores=(0.1, 0.2, 0.3))]  # left_paw on the blue half, right_paw on the red one
    paste = paste_of(CutoutSource(write_cutouts(tmp_path / "people.json", people), JOINTS), size=(0.5, 0.5))
    flips = 0
    for seed in range(40):
        after, drawn = run(paste, seed, record_of(confidence=np.zeros((0, 3), np.float32)))
        flipped = bool(after.confidence[0, 1] > 0.25)
        flips += flipped
        np.testing.assert_array_equal(after.confidence[0], np.float32([0.1, 0.3, 0.2] if flipped else [0.1, 0.2, 0.3]))
        _, left, right = after.keypoints[0]
        if left[2] and right[2]:
            assert left[0] < right[0]  # as in the cut-out: a flipped left paw is a right paw
            for joint, channel in ((left, 2 if flipped else 0), (right, 0 if flipped else 2)):
                assert drawn[int(joint[1]), round(joint[0]), channel] > 127
    assert 10 <= flips <= 30


def test_sizes_follow_the_short_side_or_a_person_of_the_image(letter):
    paste = paste_of(letter, size=(0.2, 0.25))
    person = (60, 20, 30, 70)
    large = np.zeros((800, 400, 3), np.uint8)

    def heights(record):
        kept = [run(paste, seed, record, large)[0].boxes[-1] for seed in range(120)]
        return [box[3] for box in kept if box[1] > 2 and box[1] + box[3] < 798]

    alone = heights(record_of(size=(400, 800)))
    assert 79 <= min(alone) < 83
    assert 97 < max(alone) <= 101
    beside = np.array(heights(record_of([[(70, 30, 2)] * 3], [person], (400, 800))))
    of_person = (beside > 0.7 * 70 - 1) & (beside < 1.3 * 70 + 1)
    assert ((beside >= 79) & (beside <= 101) | of_person).all()
    assert 0.2 < (beside < 78).mean() < 0.5  # half are measured by the person, and half of these are below 80
    too_low = heights(record_of([[(70, 30, 2)] * 3], [(60, 20, 30, 15)], (400, 800)))
    assert min(too_low) >= 79


def test_half_of_the_people_stand_within_a_box_width_of_another(letter):
    paste = paste_of(letter, size=(0.1, 0.1))
    large = np.zeros((1000, 1000, 3), np.uint8)
    record = record_of([[(500, 500, 2)] * 3], [(480, 440, 40, 120)], (1000, 1000))
    boxes = np.array([run(paste, seed, record, large)[0].boxes[-1] for seed in range(200)])
    centers = boxes[:, :2] + boxes[:, 2:] / 2
    near = (np.abs(centers - 500) <= 41).all(1)
    assert 0.4 < near.mean() < 0.6
    assert np.abs(centers[near] - 500).max() > 35
    # the others are anywhere
    assert (np.histogram2d(*centers[~near].T, bins=2, range=[(0, 1000)] * 2)[0] > 10).all()


def test_no_one_is_enlarged_beyond_twice_the_cutout(letter):
    large = np.zeros((1000, 1000, 3), np.uint8)
    after, _ = run(paste_of(letter, size=(0.9, 0.9)), 3, record_of(size=(1000, 1000)), large)
    assert after.boxes[0, 3] == pytest.approx(136, abs=0.1)


def test_people_that_are_never_half_inside_are_left_out(tmp_path):
    source = CutoutSource(write_cutouts(tmp_path / "people.json", [person(*rectangle((100, 100)))]), JOINTS)
    record = record_of(size=(300, 40))
    for seed in range(10):
        after, pixels = run(paste_of(source, size=(2.5, 2.5)), seed, record, np.zeros((40, 300, 3), np.uint8))
        assert len(after.keypoints) == 0
        assert not pixels.any()


def test_as_many_people_as_asked_for(colored):
    counts = [len(run(paste_of(colored, most=3), seed)[0].keypoints) for seed in range(300)]
    assert np.bincount(counts, minlength=4)[1:] == pytest.approx([100] * 3, abs=30)
    pasted = [len(run(paste_of(colored, probability=0.3), seed)[0].keypoints) for seed in range(300)]
    assert np.mean(pasted) == pytest.approx(0.3, abs=0.08)
    record = record_of()
    after, pixels = run(paste_of(colored, probability=0.0), 1, record)
    assert after is record
    assert pixels is BLACK


@given(seed=SEEDS)
def test_the_same_seed_gives_the_same_and_nothing_is_modified(colored, seed):
    record = record_of([[(70, 60, 2)] * 3] * 2, [(20, 20, 100, 90)] * 2, ids=(3, 4))
    keypoints, boxes, image = record.keypoints.copy(), record.boxes.copy(), np.full_like(BLACK, 7)
    paste = paste_of(colored, most=3, rotation=30)
    (first, pixels), (second, again) = (run(paste, seed, record, image) for _ in range(2))
    for field in fields(ImageRecord):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))
    np.testing.assert_array_equal(pixels, again)
    np.testing.assert_array_equal(record.keypoints, keypoints)
    np.testing.assert_array_equal(record.boxes, boxes)
    assert (image == 7).all()
    assert record.ids == (3, 4)


def test_all_that_is_known_of_people_grows(letter):
    known = {"ids": (5,), "crowds": (True,), "num_keypoints": (3,), "areas": (100.0,)}
    region = [[0, 0, 160, 0, 160, 120, 0, 120]]
    record = record_of([[(70, 60, 2)] * 3], [(50, 20, 40, 90)], ignored=(region,), annotations=2, **known)
    record = replace(record, confidence=np.full((1, 3), 0.5, np.float32))
    after, _ = run(paste_of(letter, size=(0.3, 0.3)), 2, record)
    assert (after.ids, after.crowds) == ((5, None), (True, False))
    assert after.num_keypoints == (3, (after.keypoints[1, :, 2] > 0).sum())
    assert after.areas[0] == 100
    assert after.keypoints.shape == (2, 3, 3)
    assert after.boxes.shape == (2, 4)
    assert {a.dtype for a in (after.keypoints, after.boxes, after.confidence)} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(after.confidence, [[0.5] * 3, [1] * 3])
    # what training ignores stays so under a pasted person
    assert (after.ignored, after.annotations) == ((region,), 2)
    assert not after.valid_mask().any()


def test_what_is_not_known_of_people_stays_unknown(letter):
    after, _ = run(paste_of(letter), 2, record_of([[(70, 60, 2)] * 3], [(50, 20, 40, 90)]))
    assert len(after.keypoints) == 2
    assert (after.ids, after.crowds, after.num_keypoints, after.areas, after.confidence) == ((), (), (), (), None)


@given(seed=SEEDS, rotation=st.floats(0, 45))
def test_a_reduced_image_gets_the_same_people(letter, seed, rotation):
    paste = paste_of(letter, most=2, size=(0.4, 0.9), rotation=rotation)
    whole, pixels = run(paste, seed)
    half, reduced = run(paste, seed, pixels=BLACK[::2, ::2].copy(), reduction=2)
    for field in fields(ImageRecord):
        np.testing.assert_array_equal(getattr(whole, field.name), getattr(half, field.name))
    averaged = cv2.resize(pixels, (SIZE[0] // 2, SIZE[1] // 2), interpolation=cv2.INTER_AREA)
    assert np.abs(averaged.astype(int) - reduced).mean() < 8


def test_places_in_reduced_images_are_right_on_average(letter):
    """Feathered edges differ by the resolution; over many people that is no shift, a wrong convention would be."""
    paste = paste_of(letter, size=(0.6, 0.6), rotation=180)
    shifts = []
    for seed in range(80):
        centers = []
        for reduction in (1, 2, 4):
            drawn = run(paste, seed, pixels=BLACK[::reduction, ::reduction].copy(), reduction=reduction)[1][..., 0]
            weights = drawn / drawn.sum()
            # pixel x of the reduced image covers r·x + (r − 1)/2 of the image
            at = [(np.arange(n) * reduction + (reduction - 1) / 2) for n in drawn.shape]
            centers.append([(weights.sum(1) * at[0]).sum(), (weights.sum(0) * at[1]).sum()])
        shifts.append(np.subtract(centers[1:], centers[0]))
    np.testing.assert_allclose(np.mean(shifts, 0), 0, atol=0.1)


@given(seed=SEEDS, size=st.floats(0.2, 1.2), rotation=st.floats(0, 180))
def test_edges_are_soft_and_show_nothing_of_the_cutouts_surroundings(letter, seed, size, rotation):
    after, pixels = run(paste_of(letter, size=(size, size), rotation=rotation), seed)
    # the letter is gray on green: any green would come from outside its mask
    assert np.abs(pixels[..., 1].astype(int) - pixels[..., 0]).max() <= 2
    values = pixels[..., 0].astype(int)
    if len(after.boxes):
        assert max(np.abs(np.diff(values, axis=axis)).max() for axis in (0, 1)) < 230
        assert values.max() > 200 if size > 0.4 else values.max() > 127


def test_the_inside_of_a_person_is_not_changed(tmp_path):
    source = CutoutSource(write_cutouts(tmp_path / "people.json", [person(*rectangle(color=(10, 120, 230)))]), JOINTS)
    white = np.full_like(BLACK, 255)
    after, pixels = run(paste_of(source, size=(0.5, 0.5)), 0, pixels=white)
    x, y, width, height = after.boxes[0].astype(int)
    inside = pixels[max(y, 0) + 4 : y + height - 4, max(x, 0) + 4 : x + width - 4]
    assert inside.size
    assert np.abs(inside.astype(int) - (10, 120, 230)).max() <= 1
    outside = np.ones(pixels.shape[:2], bool)
    outside[max(y - 2, 0) : y + height + 2, max(x - 2, 0) : x + width + 2] = False
    assert (pixels[outside] == 255).all()


def test_real_cutouts_land_where_their_boxes_are(real_dir):
    names = [*JOINTS, "left_shoulder", "right_shoulder"]  # this schema's paws are no joints of the file
    source = CutoutSource(real_dir / "ccp_cutouts.json", names)
    paste = CopyPaste(source, (0, 2, 1, 4, 3), 1.0, 1, (0.3, 0.9), 15.0)
    gray = np.full((240, 352, 3), 128, np.uint8)
    empty = ImageRecord(1, Path("gray.png"), 352, 240, np.zeros((0, 5, 3), np.float32), np.zeros((0, 4), np.float32))
    for seed in range(20):
        after, pixels = paste(np.random.default_rng(seed), empty, gray, 1)
        x, y, width, height = after.boxes[0]
        changed = np.abs(pixels.astype(int) - 128).max(2) > 6
        assert np.abs(corners_of(changed) - (x, y, x + width, y + height)).max() <= 4
        assert not after.keypoints[0, 1:3].any()
        for joint in after.keypoints[0]:
            if joint[2]:
                assert x - 2 <= joint[0] <= x + width + 2
                assert y - 2 <= joint[1] <= y + height + 2
