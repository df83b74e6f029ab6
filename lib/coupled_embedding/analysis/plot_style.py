"""One matplotlib style for all analyses, apart from the user's own settings, and figures as parts of an HTML page."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # matplotlib is imported when something is drawn
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

# Okabe and Ito's colors, distinct for all kinds of color vision
BLUE, SKY, GREEN, ORANGE, RED, PURPLE = "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7"
INK, SOFT, GRID = "#1f2937", "#5b6472", "#dfe3e8"

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "coupled_embedding",  # equal figures get equal ids
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
}
_TIP = "tip "


@contextmanager
def plot_style() -> Iterator[None]:
    """Draw in the analyses' style, in a block or as a decorator; the user's settings are restored afterwards."""
    import matplotlib.style

    with matplotlib.style.context("default"), matplotlib.rc_context(_STYLE):
        yield


def add_tip(artist: "Artist", text: str) -> None:
    """Give a part of a figure a text that `to_svg` shows under the mouse."""
    artist.set_gid(_TIP + text)


@plot_style()
def to_svg(figure: "Figure", name: str, label: str) -> str:
    """Return a figure as an SVG element that refers to nothing outside itself.

    Args:
        figure: is changed: nothing in it is clipped.
        name: of the figure in its page; all ids start with it.
        label: what the plot shows, for screen readers.
    """
    for artist in figure.findobj():
        artist.set_clip_on(False)
    content = io.StringIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    svg = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>", "", content.getvalue(), flags=re.DOTALL)
    body = svg[svg.index("<svg") :].partition(">")[2]
    body = re.sub(rf'<g id="{_TIP}([^"]*)">', r"<g><title>\1</title>", body)
    body = re.sub(r'<g id="[^"]*">', "<g>", body)
    body = re.sub(r'\b(id="|xlink:href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r"font-family: [^;]*; ", "", body)  # the page's font
    width, height = figure.get_size_inches() * 72
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">{body}'
