import numpy as np
import pytest

from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.schema import KeypointSchema, load_schema
from coupled_embedding.visualize import draw_poses, person_color
from coupled_embedding.visualize.canvas import Canvas

COCO = load_schema("datasets/coco.yaml")
DOT = KeypointSchema("dot", ("dot",), (), (), (0.1,), (0,), ((255, 0, 0),))
PAIR = KeypointSchema("pair", ("left", "right"), ((0, 1),), ((0, 1),), (0.1, 0.1), (0, 1), ((255, 0, 0), (0, 0, 255)))


def gray(height=120, width=160):
    return np.full((height, width, 3), 128, np.uint8)


def standing(count=1, height=90.0, seed=0):
    """People (count, 17, 3) of a height in pixels, all joints seen, at random places of a 640 x 480 image."""
    rng = np.random.default_rng(seed)
    people = np.full((count, 17, 3), 2.0)
    people[..., :2] = rng.uniform(0, height, (count, 17, 2)) + rng.uniform(0, 380, (count, 1, 2)) + 1
    return people


def dot(x, y, value=2.0):
    return np.array([[[x, y, value]]])


def changed(before, after):
    return (before != after).any(axis=2)


def test_person_colors_are_stable_distinct_and_bright():
    colors = [person_color(i) for i in range(500)]
    assert colors == [person_color(i) for i in range(500)]
    assert len(set(colors)) == 500
    first = np.array(colors[:12], float)
    gaps = np.linalg.norm(first[:, None] - first[None], axis=2) + 1e3 * np.eye(12)
    assert gaps.min() > 50
    assert min(max(color) for color in colors) > 200


def test_a_persons_color_does_not_depend_on_the_other_people():
    image = gray(480, 640)
    both = np.concatenate([dot(100, 100), dot(400, 300)])
    alone = draw_poses(image, both[:1], DOT)
    together = draw_poses(image, both, DOT)
    np.testing.assert_array_equal(alone[80:120, 80:120], together[80:120, 80:120])
    assert (together[100, 100] != together[300, 400]).any()


@pytest.mark.parametrize("poses", [standing(3), [Pose(p, 0.5) for p in standing(2)], np.zeros((0, 17, 3)), []])
def test_the_input_stays_as_it_is(poses):
    image = gray(480, 640)
    before = image.copy()
    result = draw_poses(image, poses, COCO, boxes=True)
    np.testing.assert_array_equal(image, before)
    assert result is not image
    assert not np.shares_memory(result, image)
    assert (result.shape, result.dtype) == (image.shape, np.uint8)
    assert changed(image, result).any() == (len(poses) > 0)


@pytest.mark.parametrize(
    "person",
    [dot(50, 50, 0), dot(0, 0), dot(np.nan, 5), dot(5, np.inf), dot(-900, 50), dot(50, 1e12), dot(2e9, -2e9)],
)
def test_nothing_is_drawn_for_joints_that_are_not_there(person):
    np.testing.assert_array_equal(draw_poses(gray(), person, DOT, boxes=False), gray())


@pytest.mark.parametrize(("score", "min_score", "drawn"), [(0.3, 0, True), (0, 0, False), (-1, -5, False)])
def test_scores_at_or_below_zero_are_not_drawn(score, min_score, drawn):
    pose = Pose(dot(50, 50, score)[0], 0.5)
    assert changed(gray(), draw_poses(gray(), [pose], DOT, min_score=min_score)).any() == drawn


def test_min_score_leaves_out_joints_and_their_limbs():
    pose = Pose(np.array([[30.0, 60, 0.9], [130, 60, 0.2]]), 0.5)
    drawn = changed(gray(), draw_poses(gray(), [pose], PAIR, min_score=0.5))
    assert drawn[60, 30]
    assert not drawn[:, 45:].any()
    assert changed(gray(), draw_poses(gray(), [pose], PAIR))[60, [80, 130]].all()


def test_a_predicted_score_of_one_is_not_taken_for_a_hidden_joint():
    # the center of a hidden joint shows the image
    place = (60, 40)
    hidden = draw_poses(gray(), dot(40, 60, 1), DOT)
    predicted = draw_poses(gray(), [Pose(dot(40, 60, 1)[0], 1.0)], DOT)
    assert (hidden[place] == 128).all()
    assert changed(gray(), hidden).sum() > 8
    assert (predicted[place] != 128).any()


def test_the_lower_a_score_the_more_of_the_image_shows():
    drawn = [draw_poses(gray(), [Pose(dot(40, 60, score)[0], 0.5)], DOT)[60, 40] for score in (0.02, 0.15, 0.3, 0.7, 1)]
    strength = [int(np.abs(pixel.astype(int) - 128).sum()) for pixel in drawn]
    assert 30 < strength[0] < strength[1] < strength[2] < strength[3] == strength[4]
    labelled = draw_poses(gray(), dot(40, 60), DOT)[60, 40]
    assert (labelled == drawn[-1]).all()


def test_a_limb_is_as_faint_as_its_fainter_joint():
    def middle(first, second):
        person = Pose(np.array([[30.0, 60, first], [130, 60, second]]), 0.5)
        return np.abs(draw_poses(gray(), [person], PAIR)[60, 80].astype(int) - 128).sum()

    assert middle(0.9, 0.1) == middle(0.1, 0.9) == middle(0.1, 0.1) < middle(0.9, 0.9)


def test_transparent_marks_do_not_show_through_each_other():
    image = np.zeros((40, 60, 3), np.uint8)
    canvas = Canvas(image, np.array([[0.0, 0.0], [59.0, 39.0]]), 0, 1)
    with canvas.transparent(0.5):
        for _ in range(3):
            canvas.disc(np.array([30.0, 20.0]), (200, 100, 40), 5)
    canvas.paste()
    assert image[20, 30].tolist() == [100, 50, 20]


def test_ids_choose_the_colors():
    people = np.concatenate([dot(40, 60), dot(110, 60)])
    places = draw_poses(gray(), people, DOT)
    np.testing.assert_array_equal(draw_poses(gray(), people, DOT, ids=[0, 1]), places)
    swapped = draw_poses(gray(), people, DOT, ids=[1, 0])
    np.testing.assert_array_equal(swapped[60, 110], places[60, 40])
    np.testing.assert_array_equal(swapped[60, 40], places[60, 110])


# Machado, Oliveira and Fernandes (2009), severity 1: linear red, green, blue as the color-blind see them
SIGHTS = {
    "all cones": np.eye(3),
    "no red cones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green cones": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "no blue cones": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize(
    ("sight", "least"), [("all cones", 60), ("no red cones", 25), ("no green cones", 25), ("no blue cones", 15)]
)
def test_the_color_blind_tell_the_first_people_apart(sight, least):
    rgb = np.array([person_color(index)[::-1] for index in range(8)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(SIGHTS[sight]).T, 0, 1)
    # CIE Lab of linear RGB, white point D65
    xyz = seen @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    f = np.cbrt(np.maximum(xyz / [0.9505, 1.0, 1.089], 0.008856))
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=2) + 1e3 * np.eye(8)
    assert distances.min() > least


@pytest.mark.parametrize("place", [(40.0, 60.0), (40.3, 60.7), (40.5, 60.5), (41.8, 59.1)])
@pytest.mark.parametrize("label", [1, 2])
def test_joints_are_drawn_at_their_sub_pixel_place(place, label):
    drawn = np.abs(draw_poses(gray(), dot(*place, label), DOT).astype(float) - 128).sum(axis=2)
    rows, columns = np.indices(drawn.shape)
    centroid = (drawn * columns).sum() / drawn.sum(), (drawn * rows).sum() / drawn.sum()
    np.testing.assert_allclose(centroid, place, atol=0.15)


@pytest.mark.parametrize("fineness", [1, 2, 4])
@pytest.mark.parametrize("width", [2.0, 3.0, 6.5])
def test_lines_have_the_requested_width(fineness, width):
    image = np.zeros((40, 60, 3), np.uint8)
    canvas = Canvas(image, np.array([[0.0, 0.0], [59.0, 39.0]]), 0, fineness)
    canvas.line(np.array([5.0, 20.0]), np.array([55.0, 20.0]), (255, 255, 255), width)
    canvas.paste()
    # OpenCV knows even widths only
    assert image[:, 30, 0].sum() / 255 == pytest.approx(width, abs=0.1 + 1 / fineness)


def test_left_is_brighter_than_right():
    drawn = draw_poses(gray(480, 640), np.array([[[200.0, 200, 2], [400, 200, 2]]]), PAIR)
    assert drawn[200, 200].sum() > drawn[200, 400].sum() + 60


def test_joint_colors_are_the_schemas():
    drawn = draw_poses(gray(480, 640), np.array([[[200.0, 200, 2], [400, 200, 2]]]), PAIR, person_colors=False)
    assert drawn[200, 200].argmax() == 2
    assert drawn[200, 400].argmax() == 0


def test_small_people_get_finer_marks_than_large_ones():
    wide = draw_poses(gray(480, 640), np.array([[[100.0, 200, 2], [500, 200, 2]]]), PAIR)
    fine = draw_poses(gray(480, 640), np.array([[[100.0, 200, 2], [115, 200, 2]]]), PAIR)
    thickness = [changed(gray(480, 640), wide)[:, 300].sum(), changed(gray(480, 640), fine)[:, 107].sum()]
    assert thickness[1] <= 3 < thickness[0]


def test_a_small_person_stays_in_sight_before_a_large_one():
    small, large = [[300.0, 200, 2], [315, 200, 2]], [[100.0, 200, 2], [500, 200, 2]]
    for order in ([small, large], [large, small]):
        drawn = draw_poses(gray(480, 640), np.array(order), PAIR)
        # the large one's colors change along its limb at most a little, the small one's is another
        assert np.abs(drawn[200, 307].astype(int) - drawn[200, 330]).sum() > 100


def test_limbs_that_leave_the_image_are_cut_at_its_border():
    person = np.array([[[-1e5, 60, 2], [1e5, 60, 2]]])
    drawn = changed(gray(), draw_poses(gray(), person, PAIR, boxes=True))
    assert drawn[60].all()
    assert not drawn[:40].any()


def test_boxes_surround_the_joints():
    with_box = draw_poses(gray(480, 640), standing(), COCO, boxes=True)
    without = draw_poses(gray(480, 640), standing(), COCO)
    rows, columns = np.nonzero(changed(with_box, without))
    x, y = standing()[0, :, 0], standing()[0, :, 1]
    assert columns.min() < x.min() < x.max() < columns.max()
    assert rows.min() < y.min() < y.max() < rows.max()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2, 2)])
def test_tiny_images(size):
    image = np.zeros((*size, 3), np.uint8)
    assert draw_poses(image, standing(4, height=3), COCO, boxes=True).shape == image.shape


def test_untouched_pixels_keep_their_value():
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    assert changed(image, draw_poses(image, dot(40, 60), DOT)).sum() < 80


@pytest.mark.parametrize("image", [np.zeros((5, 5)), np.zeros((5, 5, 3)), np.zeros((0, 5, 3), np.uint8)])
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match="uint8"):
        draw_poses(image, [], COCO)


def test_people_of_another_schema_are_refused():
    with pytest.raises(ValueError, match="pair"):
        draw_poses(gray(), standing(), PAIR)
