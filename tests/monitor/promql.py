"""Enough of PromQL to evaluate this project's alerts on what `/metrics` says; `promtool` is not everywhere.

    metric{label="value"}   time()   increase(metric[1h])   + - > < >= == !=   numbers

A comparison keeps the series for which it holds, as Prometheus does; anything else is refused aloud.
"""

import operator
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

Series = dict[tuple[tuple[str, str], ...], float]
Samples = dict[str, Series]

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_TERM = re.compile(r"\s*([+-])\s*(?![^\[{]*[\]}])")
_SELECTOR = re.compile(r'([a-z_]+)(?:\{([a-z]+)="([^"]*)"\})?')


def parsed(text: str) -> Samples:
    """What `/metrics` answered, by the names of its samples."""
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return samples


def evaluate(expression: str, samples: Samples, now_s: float, before: Samples | None = None) -> Series:
    """The series for which the expression holds. `before` is what there was at the beginning of every range."""
    left, compare, right = _split(expression)
    threshold = float(right)
    values = _sum(left, samples, now_s, before or {})
    return {labels: value for labels, value in values.items() if _COMPARE[compare](value, threshold)}


def alerts(file: Path) -> dict[str, str]:
    """The expression of each alert in a file of rules."""
    found = re.findall(r"^ +- alert: (\w+)\n +expr: (.+)$", file.read_text(), re.MULTILINE)
    assert len(found) == file.read_text().count("alert:") > 0
    return dict(found)


def names_in(expression: str) -> set[str]:
    """Every metric of ours that an expression names."""
    return set(re.findall(r"\bohlcvd_\w+", expression))


def _split(expression: str) -> tuple[str, str, str]:
    match = re.fullmatch(r"(.+?)\s*(==|!=|>=|<=|>|<)\s*([0-9.]+)", expression.strip())
    assert match, f"not a comparison with a number: {expression}"
    return match[1], match[2], match[3]


def _sum(text: str, samples: Samples, now_s: float, before: Samples) -> Series:
    first, *rest = _TERM.split(text)
    total = _value(first, samples, now_s, before)
    for sign, term in zip(rest[::2], rest[1::2], strict=True):
        total = _added(total, _value(term, samples, now_s, before), 1.0 if sign == "+" else -1.0)
    assert isinstance(total, dict), f"no series in {text}"
    return total


def _added(one: Series | float, other: Series | float, sign: float) -> Series | float:
    if isinstance(one, dict) and isinstance(other, dict):
        return {labels: one[labels] + sign * other[labels] for labels in one.keys() & other.keys()}
    if isinstance(one, dict):
        assert isinstance(other, float)
        return {labels: value + sign * other for labels, value in one.items()}
    if isinstance(other, dict):
        return {labels: one + sign * value for labels, value in other.items()}
    return one + sign * other


def _value(text: str, samples: Samples, now_s: float, before: Samples) -> Series | float:
    text = text.strip()
    if text == "time()":
        return now_s
    if re.fullmatch(r"[0-9.]+", text):
        return float(text)
    grown = re.fullmatch(r"increase\((.+)\[[0-9]+[smhd]\]\)", text)
    if grown:
        now, then = _select(grown[1], samples), _select(grown[1], before)
        return {labels: value - then[labels] for labels, value in now.items() if labels in then}
    return _select(text, samples)


def _select(text: str, samples: Samples) -> Series:
    match = _SELECTOR.fullmatch(text)
    assert match, f"not understood: {text}"
    name, label, value = match.groups()
    series = samples.get(name, {})
    return series if label is None else {labels: v for labels, v in series.items() if (label, value) in labels}
