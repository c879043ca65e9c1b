"""What a case comes to, and the table of all of them. Pure."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Result:
    """One figure; None if it could not be measured, `note` says why. `better` says which direction is good;
    `reference` was measured in the same run, if there is one."""

    case: str
    value: float | None
    unit: str
    goal: float
    better: Literal["more", "less"] = "more"
    reference: float | None = None
    ratio_goal: float | None = None  # of value to reference, where that is what counts
    note: str = ""
    is_optional: bool = False  # no fault if it could not be measured

    @property
    def ratio(self) -> float | None:
        return None if not self.reference or self.value is None else self.value / self.reference

    @property
    def met(self) -> bool | None:
        """By the ratio where the goal is a ratio, else by the value; None: what is optional could not be measured."""
        if self.value is None:
            return None if self.is_optional else False
        if self.ratio_goal is not None:
            return self.ratio is not None and self.ratio >= self.ratio_goal
        return self.value >= self.goal if self.better == "more" else self.value <= self.goal

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "ratio": self.ratio, "met": self.met}


def table(results: Iterable[Result]) -> str:
    """Columns for a terminal, the notes as far as they reach."""
    rows = [("CASE", "VALUE", "UNIT", "GOAL", "REFERENCE", "RATIO", "MET", "NOTE")]
    rows += [
        (
            one.case, _number(one.value), one.unit, _goal(one), "" if one.reference is None else _number(one.reference),
            "" if one.ratio is None else f"{one.ratio:.2f}", {True: "yes", False: "NO", None: "-"}[one.met], one.note,
        )
        for one in results
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in (1, 3, 4, 5) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines)


def _goal(one: Result) -> str:
    if one.met is None:
        return "-"
    if one.ratio_goal is not None:
        return f"ratio {one.ratio_goal:g}"
    return f"{'>=' if one.better == 'more' else '<='} {_number(one.goal)}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def percentile(sorted_values: list[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    return sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))]
