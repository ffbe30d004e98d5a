"""A text as markup: escaped, with its target marked wherever it stands, and unprintable characters replaced."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

_UNPRINTABLE = {*range(32), 127, *range(0x80, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF} - {9, 10}
# Marks that turn the direction of what follows: shown as they are, a text could make the page around it unreadable.
_TURNING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F}
_REPLACED = dict.fromkeys(_UNPRINTABLE | _TURNING, "\ufffd")


def printable(text: str, most: int = 0) -> str:
    """The text without characters that HTML does not allow. Args: most, characters shown; 0: all."""
    shown = text if not most or len(text) <= most else f"{text[:most]} …"
    return shown.translate(_REPLACED)


def marked(text: str, target: str | None, most: int = 0) -> Markup:
    """The text with every occurrence of the target in `<mark>`, whatever its case."""
    shown = printable(text, most)
    if not target or not target.strip():
        return escape(shown)
    parts = re.split(f"({re.escape(printable(target.strip()))})", shown, flags=re.IGNORECASE)
    return Markup("").join(Markup("<mark>{}</mark>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts))
