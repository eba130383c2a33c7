"""The colours of charts. A method has its own by its name alone, so that it looks the same in every chart and report.

Names that share a colour still differ in their marks, unless they share both, as one pair in sixty does.
"""

from __future__ import annotations

import hashlib

from matplotlib.colors import LinearSegmentedColormap, to_rgba

# Told apart with any colour vision, by lightness where not by hue (the first six after Okabe and Ito 2008), and seen on
# a light and on a dark ground.
BLUE, VERMILION, GREEN, PINK, AMBER, SKY = "#1f83c6", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
_VIOLET, _BROWN, _GREY, _OLIVE = "#8f6fd6", "#a9714b", "#8a9096", "#b5a642"
_COLOURS = (SKY, BLUE, GREEN, PINK, _VIOLET, _BROWN, _GREY, _OLIVE, AMBER, VERMILION)
_MARKS = ("o", "s", "^", "D", "v", "P")

MISSING = "#c8473f"  # what has no value, as a mark that is seen on both grounds
TINT = LinearSegmentedColormap.from_list("tint", [(*to_rgba(BLUE)[:3], share) for share in (0, 1)])


def look(name: str) -> tuple[str, str]:
    """The colour and the mark of what is called so."""
    mark, colour = divmod(int(hashlib.sha256(name.encode()).hexdigest(), 16), len(_COLOURS))
    return _COLOURS[colour], _MARKS[mark % len(_MARKS)]
