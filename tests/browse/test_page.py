"""The page in headless Chromium: the list, the keys, and what is drawn."""

import re
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
from playwright.sync_api import Page, expect
from web import visiting

from coupled_embedding.browse.app import create_app
from coupled_embedding.browse.selection import totals
from coupled_embedding.utils.errors import UserError


@pytest.fixture
def visit(browser, serving) -> Iterator[Callable[..., Page]]:
    """visit(collection, network, part of the address): the page, once its first image is shown."""
    contexts = []

    def open_page(collection, network=None, where="") -> Page:
        contexts.append(serving(create_app(collection, "tiny", network)))
        contexts.append(visiting(browser, contexts[-1].__enter__(), where))
        page = contexts[-1].__enter__()
        expect(page.locator("#list button").first).to_be_visible()
        settled(page)
        return page

    yield open_page
    for context in reversed(contexts):
        context.__exit__(None, None, None)


def settled(page: Page) -> None:
    expect(page.locator("#caption")).not_to_be_empty()
    expect(page.locator("#busy")).to_be_hidden(timeout=60_000)  # the first decode on a machine is compiled


def pixels(page: Page) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(page.locator("canvas").screenshot(), np.uint8), cv2.IMREAD_COLOR).astype(int)


def differ(first: np.ndarray, second: np.ndarray) -> bool:
    return first.shape != second.shape or np.abs(first - second).max() > 50


def shown(page: Page) -> int:
    return int(page.url.split("#")[1])


def test_arrow_keys_walk_through_the_list_and_the_address_follows(visit, known):
    page, ids = visit(known), sorted(known.records)
    assert shown(page) == ids[0]
    for key, expected in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("ArrowLeft", 0), ("ArrowLeft", 0)):
        page.keyboard.press(key)
        expect(page.locator("[aria-current]")).to_have_attribute("data-id", str(ids[expected]))
        settled(page)
        expect(page.locator("#caption")).to_contain_text(known.records[ids[expected]].path.name)
        assert shown(page) == ids[expected]
    page.get_by_role("button", name="Next").click()
    expect(page.locator("[aria-current]")).to_have_attribute("data-id", str(ids[1]))
    assert page.problems == []


def test_an_address_leads_to_an_image(visit, known):
    last = max(known.records)
    page = visit(known, where=f"#{last}")
    expect(page.locator("[aria-current]")).to_have_attribute("data-id", str(last))


def test_worst_first_and_filters(visit, known):
    page = visit(known)
    page.get_by_label("Sort by").select_option("worst")
    worst = min(known.figures.values(), key=lambda image: (image.oks, image.image_id))
    rows = page.locator("#list button")
    expect(rows.first).to_have_attribute("data-id", str(worst.image_id))
    expect(page.locator("[aria-current]")).to_have_attribute("data-id", str(worst.image_id))
    expect(rows.first).to_contain_text(f"OKS {worst.oks:.2f}")
    expect(rows.first).to_contain_text(f"{worst.errors['background']} background")
    page.get_by_label("Mean OKS from").fill(str(worst.oks + 1e-6))
    expect(rows).to_have_count(len(known.records) - 1)
    expect(page.locator("#count")).to_have_text(f"{len(known.records) - 1} of {len(known.records)} images")
    assert shown(page) != worst.image_id
    page.get_by_label("People from").fill("99")
    expect(rows).to_have_count(0)
    assert page.problems == []


def test_truth_predictions_and_errors_are_drawn_as_chosen(visit, known):
    page = visit(known)
    everything = pixels(page)
    seen = {}
    for name, key in (("Truth", "t"), ("Predictions", "p"), ("Errors", "e")):
        page.keyboard.press(key)
        expect(page.get_by_label(name, exact=True)).not_to_be_checked()
        seen[name] = pixels(page)
        assert differ(seen[name], everything), name
        page.get_by_label(name, exact=True).check()
        assert np.array_equal(pixels(page), everything)
    assert differ(seen["Truth"], seen["Errors"])
    for kind in ("jitter", "inversion", "swap", "miss", "people missed", "background", "surplus"):
        page.locator("#kinds label").get_by_text(re.compile(rf"^{kind}\d")).click()
    assert np.array_equal(pixels(page), seen["Errors"])
    assert page.problems == []


def test_the_errors_of_the_image_and_of_its_people_are_counted(visit, known):
    page = visit(known)
    first = known.figures[shown(page)]
    for name, count in first.errors.items():
        label = "people missed" if name == "missed" else name
        expect(page.locator("#kinds label").get_by_text(f"{label}{count}", exact=True)).to_be_visible()
    people = known.describe_predictions(first.image_id)
    expect(page.locator("#people li")).to_have_count(len(people))
    best = people[0]
    expect(page.locator("#people li").first).to_contain_text(f"score {best['score']:.2f}")
    expect(page.locator("#people li").first).to_contain_text(f"OKS {best['oks']:.2f}")
    page.locator("input[name=person]").fill("0.28")
    kept = sum(person["score"] >= 0.28 for person in people)
    expect(page.locator("#people li")).to_have_count(kept)
    expect(page.locator("#unsure")).to_have_text(f"{len(people) - kept} more below the score")
    before = pixels(page)
    page.locator("#people button").first.focus()
    assert differ(pixels(page), before)


def test_a_network_predicts_all_and_its_fields_are_drawn(visit, collection, network):
    found = collection(network)
    page = visit(found, network)
    expect(page.locator("#progress")).to_be_hidden(timeout=60_000)
    assert totals(found.figures.values())["predicted"] == len(found.records)
    seen = [pixels(page)]
    for key in "23":
        page.keyboard.press(key)
        expect(page.locator("#busy")).to_be_hidden()
        seen.append(pixels(page))
    page.locator("[name=joint]").select_option(found.schema.joints[0])
    expect(page.locator("#busy")).to_be_hidden()
    seen.append(pixels(page))
    page.keyboard.press("1")
    assert np.array_equal(pixels(page), seen[0])
    assert differ(seen[0], seen[1])
    # an untrained network is sure of nothing: little is seen
    assert len({image.tobytes() for image in seen}) == len(seen)
    assert page.problems == []


def test_truth_alone_offers_nothing_else(visit, collection):
    page = visit(collection())
    expect(page.get_by_label("Truth", exact=True)).to_be_visible()
    for text in ("Predictions", "Heatmaps", "Mean OKS", "Errors in this image", "Predicted people"):
        expect(page.get_by_text(text, exact=True)).to_be_hidden()
    drawn = pixels(page)
    page.keyboard.press("t")
    assert differ(pixels(page), drawn)
    assert page.problems == []


@pytest.mark.bad_input
def test_an_image_without_pixels_shows_why_and_the_next_its_people(visit, collection, tmp_path):
    found = collection()
    first, second = sorted(found.records)[:2]
    broken = found.records[first]
    found.records[first] = type(broken)(**{**vars(broken), "path": tmp_path / "gone.jpg"})
    page = visit(found, where=f"#{second}")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("alert")).to_contain_text("gone.jpg: cannot read this image")
    expect(page.locator("canvas")).to_be_hidden()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("alert")).to_be_empty()
    settled(page)
    expect(page.locator("#caption")).to_contain_text(found.records[second].path.name)


def test_where_prediction_fails_nobody_is_called_missed(visit, collection, network, monkeypatch):
    def poses(number):
        raise UserError("no memory is left")

    monkeypatch.setattr(network, "poses", poses)
    page = visit(collection(network), network)
    expect(page.get_by_role("alert")).to_have_text("no memory is left")
    expect(page.locator("#list small.bad").first).to_have_text("no memory is left")
    expect(page.locator("#kinds label").filter(has_text="people missed")).to_have_text("people missed")
    drawn = pixels(page)
    page.keyboard.press("e")
    assert np.array_equal(pixels(page), drawn)
