"""How a number and a metric's name look, in one place.

In: a float or None, a metric name. Out: short text. Shares are shown in points (0.812 -> 81.2), losses in nats. None is
:data:`MISSING`: not measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MISSING = "–"
ENCODERS = ("start", "pre", "ft", "majority", "tfidf", "random_encoder", "random")
_NAMES = {
    "mlm_loss": "held-out MLM loss",
    "pair_accuracy": "pair accuracy",
    "macro_f1": "macro F1",
    "f1": "F1",
    "entity_f1": "entity F1",
    "unigram_nats": "unigram entropy",
}


@dataclass(frozen=True)
class Metric:
    """A metric's name taken apart: ``test/probe_pydoc_match_pre`` is split test, what probe_pydoc_match, encoder pre."""

    split: str
    what: str
    encoder: str  # one of ENCODERS, or empty

    @property
    def title(self) -> str:
        """What is measured, in words, without split and encoder."""
        if self.what.startswith("probe_"):
            return "probe " + self.what.removeprefix("probe_")
        return _NAMES.get(self.what, self.what.replace("_", " "))

    @property
    def is_loss(self) -> bool:
        """Whether the number is in nats, lower being better."""
        return any(word in self.what for word in ("loss", "nats"))


def parse_metric(name: str) -> Metric:
    """Take ``<split>/<what>[_<encoder>]`` apart."""
    split, _, rest = name.rpartition("/")
    for encoder in ENCODERS:
        if rest.endswith("_" + encoder):
            return Metric(split, rest[: -len(encoder) - 1], encoder)
    return Metric(split, rest, "")


def measured(value: float | None, metric: Metric, signed: bool = False) -> str:
    """A metric's value: points with one decimal, nats with three."""
    return nats(value, signed) if metric.is_loss else points(value, signed)


def points(value: float | None, signed: bool = False) -> str:
    """A share in points: 0.8123 is 81.2."""
    return _number(None if value is None else 100 * value, 1, signed)


def nats(value: float | None, signed: bool = False) -> str:
    """A loss or entropy in nats."""
    return _number(value, 3, signed)


def seconds(value: float | None) -> str:
    """Seconds, a decimal below ten."""
    return _number(value, 1 if value is not None and value < 10 else 0)


def ratio(value: float | None) -> str:
    """A ratio to a reference."""
    return MISSING if value is None else _number(value, 2) + "×"


def p_value(value: float | None) -> str:
    """A p-value."""
    return _number(value, 3) if value is None or value >= 0.001 else "<0.001"


def count(value: float | None) -> str:
    """A count with a metric prefix: 1 240 000 is 1.24 M."""
    if value is None or not math.isfinite(value):
        return _number(value, 0)
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if float(f"{abs(value):.3g}") >= size:
            return f"{float(f'{value:.3g}') / size:g} {unit}"
    return f"{value:.0f}"


def span(low: float, high: float, metric: Metric, signed: bool = False) -> str:
    """An interval or a range of a metric."""
    return f"{measured(low, metric, signed)} to {measured(high, metric, signed)}"


def _number(value: float | None, digits: int, signed: bool = False) -> str:
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return str(value)
    text = f"{value:+.{digits}f}"
    if float(text) == 0 or not (signed or value < 0):
        text = text[1:]
    return text.replace("-", "−")
