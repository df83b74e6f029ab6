"""The page in headless Chromium: images come in by all ways, and what is shown and saved follows the controls."""

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Page, expect
from web import visiting

from coupled_embedding.serve.app import create_app
from coupled_embedding.serve.uploads import Limits


@pytest.fixture
def image(images_dir: Path) -> Path:
    return min((images_dir / "coco/val2017").glob("*.jpg"))


@pytest.fixture
def page(browser, predictor, serving) -> Iterator[Page]:
    """The page, open; ``page.sent`` are its requests, ``page.problems`` its errors."""
    with serving(create_app(predictor, "tiny", Limits(bytes=1_000_000))) as url, visiting(browser, url) as page:
        expect(page.locator("#model")).to_have_text("tiny, input 64 px, 14 joints")
        yield page


def posts(page: Page, kind: str) -> int:
    return sum(sent.endswith(f"/api/{kind}") for sent in page.sent)


def set_slider(page: Page, name: str, value: float) -> None:
    page.locator(f"input[name={name}]").fill(str(value))


def saved(page: Page, button: str) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    return Path(download.value.path()).read_bytes()


def pixels(page: Page) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(page.locator("canvas").screenshot(), np.uint8), cv2.IMREAD_COLOR).astype(int)


@pytest.mark.photos
def test_an_image_shows_people_that_the_sliders_choose_without_a_new_request(page, predictor, image):
    page.locator("#file").set_input_files(image)
    expect(page.locator("#busy")).to_be_hidden()
    set_slider(page, "person", 0)
    people = page.locator("#people li")
    poses = predictor(image)
    assert len(poses) > 0
    expect(people).to_have_count(len(poses))
    expect(page.locator("#status")).to_contain_text(f"{len(poses)} p")
    drawn = pixels(page)
    page.get_by_label("Poses", exact=True).uncheck()
    assert np.abs(pixels(page) - drawn).max() > 50
    page.get_by_label("Poses", exact=True).check()
    assert np.array_equal(pixels(page), drawn)
    set_slider(page, "person", 1)
    expect(people).to_have_count(0)
    expect(page.locator("#status")).to_contain_text(f"0 people, {len(poses)} more below the thresholds")
    assert (posts(page, "poses"), page.problems) == (1, [])


@pytest.mark.photos
def test_heatmaps_and_tags_are_asked_for_once(page, image):
    page.locator("#file").set_input_files(image)
    expect(page.locator("#people_title")).to_be_attached()
    expect(page.locator("#busy")).to_be_hidden()
    seen = []
    for name in ("Heatmaps", "Tags", "Image", "Heatmaps", "Tags"):
        page.locator(".segments").get_by_text(name).click()
        expect(page.locator("#busy")).to_be_hidden()
        seen.append(pixels(page))
    assert [posts(page, kind) for kind in ("poses", "heatmaps", "tags")] == [1, 1, 1]
    assert np.array_equal(seen[0], seen[3])
    assert np.array_equal(seen[1], seen[4])
    assert all((a != b).any() for a, b in ((seen[0], seen[1]), (seen[1], seen[2])))
    assert page.problems == []


@pytest.mark.photos
def test_json_and_image_are_saved_as_shown(page, predictor, image):
    page.locator("#file").set_input_files(image)
    expect(page.locator("#busy")).to_be_hidden()
    expected = predictor(image).to_dict()
    scores = sorted(point[2] for one in expected["predictions"] for point in one["keypoints"].values() if point)
    least, middle = 0.0, scores[len(scores) // 2]
    set_slider(page, "person", least)
    content = json.loads(saved(page, "Download JSON"))
    assert content["source"] == image.name
    assert (content["image_size"], content["predictions"]) == (expected["image_size"], expected["predictions"])
    picture = cv2.imdecode(np.frombuffer(saved(page, "Download image"), np.uint8), cv2.IMREAD_COLOR)
    assert list(picture.shape[1::-1]) == expected["image_size"]
    assert np.abs(picture.astype(int) - cv2.imread(str(image))).max() > 50
    page.locator("input[name=joint]").evaluate(
        "(slider, value) => { slider.step = 'any'; slider.value = value; }", middle
    )
    page.locator("input[name=joint]").dispatch_event("input", {"bubbles": True})
    points = [p for one in json.loads(saved(page, "Download JSON"))["predictions"] for p in one["keypoints"].values()]
    assert min(point[2] for point in points if point) >= middle
    assert None in points


@pytest.mark.photos
@pytest.mark.parametrize("way", ["drop", "paste"])
def test_images_are_dropped_and_pasted(page, image, way):
    content = image.read_bytes()
    page.evaluate(
        """([way, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "given.jpg", { type: "image/jpeg" }));
            const about = { dataTransfer: data, clipboardData: data, bubbles: true, cancelable: true };
            const event = way === "drop" ? new DragEvent("drop", about) : new ClipboardEvent("paste", about);
            document.body.dispatchEvent(event);
        }""",
        [way, list(content)],
    )
    height, width = cv2.imread(str(image)).shape[:2]
    expect(page.locator("#status")).to_contain_text(f"{width}×{height} px")
    assert page.locator("canvas").get_attribute("aria-label").startswith("given.jpg with ")


def test_errors_are_shown_and_the_last_image_stays(page, images, tmp_path):
    page.locator("#file").set_input_files(images[0])
    expect(page.locator("#status")).to_contain_text("96×96 px")
    (tmp_path / "text.jpg").write_text("no image")
    page.locator("#file").set_input_files(tmp_path / "text.jpg")
    expect(page.get_by_role("alert")).to_have_text("text.jpg: not a JPEG, PNG, WebP or BMP image")
    (tmp_path / "large.jpg").write_bytes(bytes(1_000_001))
    page.locator("#file").set_input_files(tmp_path / "large.jpg")
    expect(page.get_by_role("alert")).to_have_text("large.jpg: larger than 1 MB")
    assert posts(page, "poses") == 2
    expect(page.locator("#status")).to_contain_text("96×96 px")
    page.locator("#file").set_input_files(images[1])
    expect(page.get_by_role("alert")).to_be_empty()
    expect(page.locator("#busy")).to_be_hidden()


def test_the_controls_have_names_and_the_keyboard_reaches_them(page, images):
    page.locator("#file").set_input_files(images[0])
    expect(page.locator("#status")).to_contain_text("96×96 px")
    for role, names in {
        "radio": ("Image", "Heatmaps", "Tags"),
        "checkbox": ("Poses", "Boxes"),
        "button": ("Download JSON", "Download image"),
        "slider": ("Person score, at least", "Joint score, at least"),
    }.items():
        for name in names:
            expect(page.get_by_role(role, name=name)).to_be_enabled()
    expect(page.get_by_role("img")).to_have_count(1)
    page.locator("#file").focus()
    reached = []
    for _ in range(7):
        page.keyboard.press("Tab")
        reached.append(page.locator(":focus").evaluate("one => one.name || one.id"))
    assert reached[:7] == ["background", "poses", "boxes", "person", "joint", "save_json", "save_image"]
