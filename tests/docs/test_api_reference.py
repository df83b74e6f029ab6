"""The API reference: CONTRIBUTING.md's command builds it without a warning, and it has what users look for."""

import re
import warnings
from pathlib import Path

import pdoc.__main__
import pytest
from documents import CHECKOUT, blocks, commands

import coupled_embedding

PUBLIC = re.findall(r"`(coupled_embedding[\w.]*)`", coupled_embedding.__doc__ or "")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, by the documented command, but into a temporary folder; a warning is an error."""
    words = next(
        words
        for block in blocks(CHECKOUT / "CONTRIBUTING.md")
        for words in commands(block.text)
        if words[1:3] == ["-m", "pdoc"]
    )[3:]
    out = tmp_path_factory.mktemp("api")
    words[words.index("-o") + 1] = str(out)
    words[words.index("-t") + 1] = str(CHECKOUT / words[words.index("-t") + 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # half the time, and no other text
        pdoc.__main__.cli([*words, "--no-show-source", "--no-search"])
    return out


def page(reference: Path, name: str) -> str:
    return (reference / f"{name.replace('.', '/')}.html").read_text(encoding="utf-8")


def test_the_first_page_links_to_all_that_it_names(reference):
    first = page(reference, "coupled_embedding")
    assert len(PUBLIC) > 10
    assert [name for name in PUBLIC if f">{name}</a>" not in first] == []


@pytest.mark.parametrize("name", [name for name in PUBLIC if name.rpartition(".")[2] != "builders"])
def test_public_names_are_documented_with_their_shapes_or_errors(reference, name):
    module, _, member = name.rpartition(".")
    section = page(reference, module).partition(f'<section id="{member}">')[2].partition("</section>")[0]
    assert '<div class="docstring">' in section


def test_sections_of_docstrings_are_rendered(reference):
    predictor = page(reference, "coupled_embedding.predictor")
    assert "<strong>min_score:</strong>" in predictor  # an argument of the class
    assert "<strong>InputError:</strong>" in predictor  # of __call__
    assert "pdoc-code codehilite" in predictor.partition("Example")[2]
    for path in reference.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        # a section that is not rendered, or code in another markup
        assert not re.search(r"<p>(Args|Returns|Raises|Attributes|Yields):|::</p>", text), path.name
