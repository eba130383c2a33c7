"""The colours and markers of charts. They depend on the name of a method only, so that they agree in all reports."""

from __future__ import annotations

import hashlib

from matplotlib.colors import LinearSegmentedColormap, to_rgba

# Distinguishable with any colour vision (Okabe and Ito 2008), on light and dark backgrounds.
BLUE, VERMILION, GREEN, PINK, AMBER, SKY = "#1f83c6", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
_VIOLET, _BROWN, _GREY, _OLIVE = "#8f6fd6", "#a9714b", "#8a9096", "#b5a642"
_COLOURS = (SKY, BLUE, GREEN, PINK, _VIOLET, _BROWN, _GREY, _OLIVE, AMBER, VERMILION)
_MARKS = ("o", "s", "^", "D", "v", "P")

MISSING = "#c8473f"  # the marker of a missing value
TINT = LinearSegmentedColormap.from_list("tint", [(*to_rgba(BLUE)[:3], share) for share in (0, 1)])


def look(name: str) -> tuple[str, str]:
    """The colour and the marker of a name."""
    mark, colour = divmod(int(hashlib.sha256(name.encode()).hexdigest(), 16), len(_COLOURS))
    return _COLOURS[colour], _MARKS[mark % len(_MARKS)]
