"""Candlesticks in a terminal: a price axis at the left, a time axis below, two steps of price in each character. Pure.

A column is one candle's time, whether there is a candle or not: what is missing stays empty. With colours, green rose
and red fell; without, a body that rose is a thin bar and one that fell a block.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, NamedTuple

from ohlcvd.terminal import GREEN, RED, coloured

_NONE, _WICK, _BODY = 0, 1, 2
# (upper half, lower half) of a character
_ROSE: Final = {
    (0, 0): " ", (1, 1): "│", (1, 0): "╵", (0, 1): "╷", (2, 2): "┃", (2, 0): "╹", (0, 2): "╻", (1, 2): "╽", (2, 1): "╿",
}  # fmt: skip
_FELL: Final = {**_ROSE, (2, 2): "█", (2, 0): "▀", (0, 2): "▄", (1, 2): "▄", (2, 1): "▀"}
_STEPS: Final = (1, 2, 5)
_ROWS_PER_LABEL: Final = 4
_MIN_WIDTH: Final = 30
_MIN_HEIGHT: Final = 8
# Columns from one candle to the next, at most: few candles are spread, not lost at the left edge.
_MOST_STRIDE: Final = 4
# "12-31 23:00" and a space
_TIME_CHARACTERS: Final = 12


class Stick(NamedTuple):
    """One candle: its open time in seconds, and its prices."""

    ts_s: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal


def columns_for(width: int) -> int:
    """How many candles fit at most: what a price of twelve characters beside them leaves."""
    return max(_MIN_WIDTH, width) - 14


def candlesticks(
    sticks: Sequence[Stick], length_s: int, *, title: str, width: int = 80, height: int = 24, colours: bool = False
) -> list[str]:
    """At most `height` lines of at most `width` characters: the newest candles that fit. `sticks` oldest first."""
    width, height = max(_MIN_WIDTH, width), max(_MIN_HEIGHT, height)
    rows = height - 3
    labels, sticks = _fitted(sticks, length_s, width, rows)
    pad = max(map(len, labels.values()))
    columns = width - pad - 2
    last_s = sticks[-1].ts_s
    slots = (last_s - sticks[0].ts_s) // length_s + 1
    # Wider where there is room: easier to read.
    stride = min(_MOST_STRIDE, max(1, columns // slots))
    grid = [[" "] * (slots * stride) for _ in range(rows)]
    top, bottom = _bounds(sticks)
    for stick in sticks:
        slot = (stick.ts_s - sticks[0].ts_s) // length_s * stride
        for row, sign in _drawn(stick, top, bottom, rows, colours=colours):
            grid[row][slot] = sign
    lines = [title[:width]]
    for row, cells in enumerate(grid):
        label = labels.get(row, "")
        lines.append(f"{label:>{pad}} {'┤' if label else '│'}{''.join(cells).rstrip()}")
    return lines + [" " * (pad + 1) + line for line in _time_axis(sticks[0].ts_s, length_s, slots, stride, columns)]


def _fitted(sticks: Sequence[Stick], length_s: int, width: int, rows: int) -> tuple[dict[int, str], Sequence[Stick]]:
    """The price labels, and the newest candles that fit beside them."""
    for _ in range(2):  # fewer candles may need wider labels, but not twice
        labels = _price_labels(*_bounds(sticks), rows)
        first_s = sticks[-1].ts_s - (width - max(map(len, labels.values())) - 3) * length_s
        sticks = [stick for stick in sticks if stick.ts_s >= first_s]
    return _price_labels(*_bounds(sticks), rows), sticks


def _bounds(sticks: Sequence[Stick]) -> tuple[Decimal, Decimal]:
    """The highest and the lowest price, never the same."""
    top, bottom = max(stick.high for stick in sticks), min(stick.low for stick in sticks)
    if top == bottom:
        margin = top / 1000 or Decimal(1)
        return top + margin, bottom - margin
    return top, bottom


def _price_labels(top: Decimal, bottom: Decimal, rows: int) -> dict[int, str]:
    """Round prices, each with the row it belongs to."""
    wanted = (top - bottom) * _ROWS_PER_LABEL / rows
    power = Decimal(1).scaleb(wanted.adjusted())
    step = next((power * factor for factor in _STEPS if power * factor >= wanted), power * 10)
    decimals = max(0, -step.adjusted())
    labels: dict[int, str] = {}
    price = (bottom / step).to_integral_value(rounding="ROUND_CEILING") * step
    while price <= top:
        labels[_half(price, top, bottom, rows) // 2] = f"{price:,.{decimals}f}"
        price += step
    return labels or {0: f"{top:,.{decimals}f}"}


def _half(price: Decimal, top: Decimal, bottom: Decimal, rows: int) -> int:
    """The half row in which a price lies, from the top."""
    return min(2 * rows - 1, int((top - price) / (top - bottom) * 2 * rows))


def _drawn(stick: Stick, top: Decimal, bottom: Decimal, rows: int, *, colours: bool) -> list[tuple[int, str]]:
    """(row, character) of one candle."""
    rose = stick.close >= stick.open
    high, low = (_half(price, top, bottom, rows) for price in (stick.high, stick.low))
    upper, lower = sorted(_half(price, top, bottom, rows) for price in (stick.open, stick.close))
    kinds = {half: _BODY if upper <= half <= lower else _WICK for half in range(high, low + 1)}
    signs = _ROSE if rose or colours else _FELL
    drawn = []
    for row in range(high // 2, low // 2 + 1):
        sign = signs[kinds.get(2 * row, _NONE), kinds.get(2 * row + 1, _NONE)]
        drawn.append((row, coloured(sign, GREEN if rose else RED) if colours else sign))
    return drawn


def _time_axis(first_s: int, length_s: int, slots: int, stride: int, columns: int) -> list[str]:
    """The axis with ticks at round times, and the times below it."""
    form, day_form = ("%Y-%m-%d", "%Y-%m-%d") if length_s >= 86_400 else ("%H:%M", "%m-%d %H:%M")
    axis, times = ["─"] * columns, [" "] * columns
    free = 0
    every_s = _round_length(length_s, -(-_TIME_CHARACTERS // stride))
    shown_day = None
    for slot in range(slots):
        ts_s = first_s + slot * length_s
        if ts_s % every_s >= length_s:
            continue
        at = datetime.fromtimestamp(ts_s, UTC)
        label = at.strftime(form if at.date() == shown_day else day_form)
        column = slot * stride
        if column < free or column + len(label) > columns:
            continue
        axis[column] = "┬"
        times[column : column + len(label)] = label
        free, shown_day = column + len(label) + 1, at.date()
    return ["└" + "".join(axis), " " + "".join(times).rstrip()]


def _round_length(length_s: int, slots: int) -> int:
    """A round length of time, of at least so many candles."""
    for minutes in (5, 10, 15, 30, 60, 120, 180, 240, 360, 720, 1440, 2880, 5 * 1440, 7 * 1440, 14 * 1440, 28 * 1440):
        if minutes * 60 >= length_s * slots and minutes * 60 % length_s == 0:
            return minutes * 60
    return length_s * slots
