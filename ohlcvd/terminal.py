"""Text for people: tables, colours, and nothing in it that a terminal would obey. Pure, but for asking a stream."""

import os
import re
from collections.abc import Sequence
from typing import TextIO

# Control characters (0x9b begins a sequence just as ESC [ does), line separators, overrides of text direction.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

RED, YELLOW, GREEN, DIM, BOLD = "31", "33", "32", "2", "1"


def safe(text: str) -> str:
    """The text with control characters written out, so that whoever chose it cannot steer the terminal."""
    return text if text.isascii() and text.isprintable() else _UNSAFE.sub(_escape, text)


def shortened(text: str, width: int) -> str:
    """The text, or its beginning with dots where it is longer than `width`."""
    return text if len(text) <= width else text[: max(width - 3, 0)].rstrip() + "..."


def coloured(text: str, colour: str) -> str:
    """The text in a colour, and plain after it."""
    return f"\x1b[{colour}m{text}\x1b[0m"


def wants_colour(stream: TextIO) -> bool:
    """Whether `stream` is a terminal that shows colours, to somebody who has not declined them."""
    if stream.closed or not stream.isatty():
        return False
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned lines. A column whose header begins with ">" stands at the right, as numbers do."""
    right = [name.startswith(">") for name in header]
    cells = [[name.lstrip(">") for name in header], *([safe(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return [
        "  ".join(
            cell.rjust(width) if at_right else cell.ljust(width)
            for cell, width, at_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
