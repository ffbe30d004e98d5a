"""Results as a console and a notebook show them: plain lines, and a small table of HTML that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_CELL = "text-align:left;padding:0.15em 0.8em"


class Shown:
    """A result with `as_text`, and with `cells` where a part of it is a table.

    A dataclass that inherits from it leaves out its own `__repr__` with `repr=False`.
    """

    def as_text(self) -> str:
        """The result in a few lines."""
        raise NotImplementedError

    def cells(self) -> Sequence[Sequence[str]]:
        """The rows of its table, the header first, all of the same length; none: the lines say it all."""
        return ()

    def __repr__(self) -> str:
        """The lines: a console shows them where a result is all that is typed."""
        return self.as_text()

    def _repr_html_(self) -> str:
        """What a notebook shows: the table, and the lines below it, folded; everything escaped."""
        lines = f"<pre>{escape(self.as_text())}</pre>"
        rows = self.cells()
        return f"{html_table(rows)}<details><summary>in words</summary>{lines}</details>" if rows else lines


def html_table(rows: Sequence[Sequence[str]]) -> str:
    """A table of HTML with every cell escaped. Args: rows, the header first."""
    header, *others = rows
    head = "".join(f'<th style="{_CELL}">{escape(cell)}</th>' for cell in header)
    body = "".join("<tr>" + "".join(f'<td style="{_CELL}">{escape(cell)}</td>' for cell in row) + "</tr>" for row in others)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def text_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """A plain-text table, a line for each row. Args: rows, at least one, all of the same length."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
