"""Images of counterfactuals: the instance, the counterfactual, the difference, and the evolution over lambda.

They are composed with Pillow, which takes about a millisecond per image. Inputs are images (height, width, channels) or
tables (features,), which are drawn as bars. Charts are in `cfx.charts`. TensorFlow is not required.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import to_rgba
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from cfx.data import FEATURE_RANGE

FeatureRange = tuple[ArrayLike, ArrayLike]

_PANEL = 168  # approximate longer side of a panel, in pixels
_STEP = 84  # the same for a step of an evolution
_STEPS_A_LINE = 7
_SHEET_COLUMNS = 12
_GAP = 12
_FONT_SIZE = 13
_LINE = 19  # line height of text, in pixels
_BAR = 4  # width of a bar including a gap of one, in pixels
_BAR_ROWS = 48  # minimum height of bars, in pixels
_INK, _FAINT, _GROUND = "#1c1e21", "#9aa0a6", "#ffffff"
_DIVERGING = matplotlib.colormaps["RdBu_r"].resampled(257)  # an odd number, so that zero has its own colour


def caption(
    original_class: int | str,
    cf_class: int | str,
    probability: float,
    l1: float,
    found: bool = True,
    unchanged: bool = False,
) -> str:
    """A caption such as "7 → 9, p=0.990, L1=10.7", or that a counterfactual was not found or is unchanged.

    Classes are numbers or names.
    """
    if unchanged:
        return f"{original_class}, p={probability:.3f}: unchanged, already in the target class"
    if not found:
        return f"{original_class} → no counterfactual found"
    return f"{original_class} → {cf_class}, p={probability:.3f}, L1={l1:.1f}"


def input_image(x: np.ndarray, feature_range: FeatureRange = FEATURE_RANGE) -> Image.Image:
    """An input as an image of its size, from black at the minimum to white at the maximum; a table as bars.

    x: (height, width, channels), grey for one channel, in colour for three, and the mean for any other number; or
    (features,). feature_range: two numbers, or two arrays that broadcast to x.
    """
    share = np.clip((x - np.asarray(feature_range[0])) / _span(feature_range), 0, 1)
    if x.ndim != 3:
        return _bars(share.ravel(), np.zeros(share.size), np.broadcast_to(to_rgba(_INK), (share.size, 4)))
    if x.shape[2] not in (1, 3):
        share = share.mean(axis=2, keepdims=True)
    pixels = np.round(255 * share).astype(np.uint8)
    return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])


def difference_image(
    instance: np.ndarray, counterfactual: np.ndarray, feature_range: FeatureRange = FEATURE_RANGE
) -> Image.Image:
    """The difference as an image: blue for a decrease, white for no change, red for an increase.

    The colour scale covers the whole feature range, so that images are comparable. Of several channels, the one with
    the largest change is shown, because changes may cancel in the mean.
    """
    change = np.clip((counterfactual - instance) / _span(feature_range), -1, 1)
    if change.ndim != 3:
        change = change.ravel()
        return _bars((1 + np.maximum(change, 0)) / 2, (1 + np.minimum(change, 0)) / 2, _DIVERGING((1 + change) / 2))
    largest = np.take_along_axis(change, np.abs(change).argmax(axis=2, keepdims=True), axis=2)[:, :, 0]
    return Image.fromarray(_DIVERGING((1 + largest) / 2, bytes=True)).convert("RGB")


def counterfactual_picture(
    instance: np.ndarray, counterfactual: np.ndarray, caption: str, feature_range: FeatureRange = FEATURE_RANGE
) -> Image.Image:
    """The original, the counterfactual and the difference with a colour bar, side by side, with titles and a caption.

    instance, counterfactual: as in `input_image`.
    """
    panels = [
        ("original", input_image(instance, feature_range)),
        ("counterfactual", input_image(counterfactual, feature_range)),
        ("difference", difference_image(instance, counterfactual, feature_range)),
    ]
    tiles = [_tile(image, _PANEL, above=[title]) for title, image in panels]
    tiles.append(_colour_bar(tiles[-1].height, feature_range))
    return _on_ground([_side_by_side(tiles), _text(caption)])


def evolution_strip(
    instance: np.ndarray,
    counterfactuals: np.ndarray,
    lam: ArrayLike,
    l1: ArrayLike,
    cf_class: Sequence[int | str] | np.ndarray,
    feature_range: FeatureRange = FEATURE_RANGE,
) -> Image.Image:
    """The original and the first counterfactual found at each lambda, with lambda, L1 and class.

    counterfactuals: (k, *instance.shape); lam, l1 and cf_class have k values; k may be 0.
    """
    tiles = [_tile(input_image(instance, feature_range), _STEP, below=["original", "", ""])]
    for x, step_lam, step_l1, step_class in zip(
        counterfactuals, np.asarray(lam), np.asarray(l1), cf_class, strict=True
    ):
        lines = [f"λ={step_lam:.2g}", f"L1={step_l1:.1f}", f"class {step_class}"]
        tiles.append(_tile(input_image(x, feature_range), _STEP, below=lines))
    lines_of_tiles = [tiles[start : start + _STEPS_A_LINE] for start in range(0, len(tiles), _STEPS_A_LINE)]
    return _on_ground([_side_by_side(line) for line in lines_of_tiles])


def _span(feature_range: FeatureRange) -> np.ndarray:
    return np.asarray(feature_range[1]) - np.asarray(feature_range[0])


def _bars(top: np.ndarray, bottom: np.ndarray, colours: np.ndarray) -> Image.Image:
    """One bar per feature from `bottom` to `top`, (features,) shares of the height; colours: (features, 4)."""
    rows = max(_BAR_ROWS, _BAR * top.size // 3)
    height = (np.arange(rows)[::-1, None] + 0.5) / rows
    filled = (height < top) & (height > bottom)
    pixels = np.where(filled[..., None], np.round(255 * colours[:, :3]), 255).astype(np.uint8)
    pixels = np.repeat(pixels, _BAR, axis=1)
    pixels[:, _BAR - 1 :: _BAR] = 255
    return Image.fromarray(pixels)


def _tile(image: Image.Image, side: int, above: Sequence[str] = (), below: Sequence[str] = ()) -> Image.Image:
    """An image of about `side` pixels with a thin frame and lines of text above and below."""
    factor = round(side / max(image.size))
    if factor >= 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    else:
        image.thumbnail((side, side), Image.Resampling.BOX)
    width = max(image.width + 2, *(_width(line) for line in (*above, *below)))
    tile = Image.new("RGB", (width, image.height + 2 + _LINE * len((*above, *below))), _GROUND)
    draw = ImageDraw.Draw(tile)
    left, top = (width - image.width) // 2, _LINE * len(above) + 1
    for row, line in enumerate(above):
        _write(draw, (width / 2, _LINE * (row + 0.5)), line, "mm")
    for row, line in enumerate(below):
        _write(draw, (width / 2, top + image.height + 1 + _LINE * (row + 0.5)), line, "mm")
    draw.rectangle((left - 1, top - 1, left + image.width, top + image.height), outline=_FAINT)
    tile.paste(image, (left, top))
    return tile


def _colour_bar(height: int, feature_range: FeatureRange) -> Image.Image:
    """The colour bar of a difference, with the height of a panel without its title."""
    span = _span(feature_range)
    limit = f"{span:g}" if span.ndim == 0 else "range"
    labels = [f"+{limit}", "0", f"\N{MINUS SIGN}{limit}"]
    length = height - _LINE
    bar = Image.new("RGB", (16 + max(map(_width, labels)), height), _GROUND)
    colours = _DIVERGING(np.linspace(1, 0, length - 2), bytes=True)[:, None, :3]
    draw = ImageDraw.Draw(bar)
    draw.rectangle((0, _LINE, 10, height - 1), outline=_FAINT)
    bar.paste(Image.fromarray(np.repeat(colours, 9, axis=1)), (1, _LINE + 1))
    for share, label, anchor in zip((0, 0.5, 1), labels, ("la", "lm", "ld"), strict=True):
        _write(draw, (16, _LINE + share * (length - 1)), label, anchor)
    return bar


def _side_by_side(tiles: Sequence[Image.Image]) -> Image.Image:
    line = Image.new("RGB", (sum(tile.width + _GAP for tile in tiles) - _GAP, max(t.height for t in tiles)), _GROUND)
    left = 0
    for tile in tiles:
        line.paste(tile, (left, 0))
        left += tile.width + _GAP
    return line


def _on_ground(lines: Sequence[Image.Image]) -> Image.Image:
    """Images below each other, with a margin."""
    width = max(line.width for line in lines)
    whole = Image.new("RGB", (width + 2 * _GAP, sum(line.height + _GAP for line in lines) + _GAP), _GROUND)
    top = _GAP
    for line in lines:
        whole.paste(line, (_GAP, top))
        top += line.height + _GAP
    return whole


def _text(text: str) -> Image.Image:
    line = Image.new("RGB", (_width(text), _LINE), _GROUND)
    _write(ImageDraw.Draw(line), (0, _LINE / 2), text, "lm")
    return line


@cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", _FONT_SIZE)


def _width(text: str) -> int:
    return int(np.ceil(_font().getlength(text)))


def _write(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, anchor: str) -> None:
    draw.text(place, text, fill=_INK, font=_font(), anchor=anchor)


def contact_sheet(
    instances: np.ndarray,
    axes: Sequence[str],
    columns: Sequence[tuple[Sequence[str], Sequence[tuple[np.ndarray | None, Sequence[str]]]]],
    feature_range: FeatureRange = FEATURE_RANGE,
) -> Image.Image:
    """An image with one row per instance and one column per search.

    instances: (rows, *shape). axes: the names of the swept parameters. columns: for each search, the values of the
    parameters, and for each instance the counterfactual or None, with two lines of text. After twelve columns, the
    sheet continues below, and the instances are repeated.
    """
    blank = Image.new("L", input_image(instances[0], feature_range).size, "white")
    first = [_tile(input_image(x, feature_range), _STEP, below=["original", ""]) for x in instances]
    lines = []
    for start in range(0, len(columns), _SHEET_COLUMNS):
        stacks = [[_heading(axes), *first]]
        for values, entries in columns[start : start + _SHEET_COLUMNS]:
            found = [blank if x is None else input_image(x, feature_range) for x, _ in entries]
            tiles = [_tile(image, _STEP, below=below) for image, (_, below) in zip(found, entries, strict=True)]
            stacks.append([_heading(values), *tiles])
        lines.append(_side_by_side([_stack(stack) for stack in stacks]))
    return _on_ground(lines)


def _heading(lines: Sequence[str]) -> Image.Image:
    heading = Image.new("RGB", (max(map(_width, lines)), _LINE * len(lines)), _GROUND)
    draw = ImageDraw.Draw(heading)
    for row, line in enumerate(lines):
        _write(draw, (heading.width / 2, _LINE * (row + 0.5)), line, "mm")
    return heading


def _stack(tiles: Sequence[Image.Image]) -> Image.Image:
    """Images below each other, centred."""
    width = max(tile.width for tile in tiles)
    column = Image.new("RGB", (width, sum(tile.height + _GAP for tile in tiles) - _GAP), _GROUND)
    top = 0
    for tile in tiles:
        column.paste(tile, ((width - tile.width) // 2, top))
        top += tile.height + _GAP
    return column
