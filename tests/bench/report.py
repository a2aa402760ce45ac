"""A small table for a person, and the same for a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Cell: TypeAlias = str | int | float

_SMALL = 10.0


@dataclass(slots=True)
class Report:
    """What one benchmark found."""

    name: str
    what: str
    columns: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    load: tuple[float, float] = (0.0, 0.0)
    """The machine's load average before and after."""

    def text(self) -> str:
        """The table."""
        lines = [list(self.columns), *([_shown(cell) for cell in row] for row in self.rows)]
        widths = [max(len(line[at]) for line in lines) for at in range(len(self.columns))]
        shown = [
            "  ".join(cell.rjust(width) if at else cell.ljust(width) for at, (cell, width) in enumerate(pairs)).rstrip()
            for pairs in (list(zip(line, widths, strict=True)) for line in lines)
        ]
        head = f"== {self.name}: {self.what} (load {self.load[0]:.1f} before, {self.load[1]:.1f} after)"
        return "\n".join([head, *shown, *(f"   {note}" for note in self.notes), ""])

    def values(self) -> dict[str, object]:
        """The same as JSON takes it."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"name": self.name, "what": self.what, "load": self.load, "rows": rows, "notes": self.notes}


def _shown(cell: Cell) -> str:
    if isinstance(cell, float):
        return f"{cell:.2f}" if abs(cell) < _SMALL else f"{cell:,.0f}"
    return f"{cell:,}" if isinstance(cell, int) else cell
