"""How a number and a metric's name look, in one place.

In: a float or None, a metric name. Out: short text. Shares are shown in points (0.812 -> 81.2), losses in nats. None is
:data:`MISSING`: not measured.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

MISSING = "–"
TASK_MEASURES = ("probe_", "knn_", "few_shot_", "prompt_")  # of an encoder, each followed by a task's name
ENCODERS = ("start", "pre", "ft", "majority", "tfidf", "random_encoder", "random")
_NAMES = {
    "mlm_loss": "held-out MLM loss",
    "pair_accuracy": "pair accuracy",
    "macro_f1": "macro F1",
    "f1": "F1",
    "entity_f1": "entity F1",
    "unigram_nats": "unigram entropy",
    "pll_per_token": "pseudo-log-likelihood per token, nats",
    "pll_per_character": "pseudo-log-likelihood per character, nats",
    "effective_rank": "effective rank",
    "displacement": "distance from its start",
    "overfit": "score on training rows less validation",
    "displacement_cosine": "cosine of the two distances",
    "alignment": "alignment with its start",
    "alignment_pre": "alignment of pre and ft",
}
_PATTERNS = (  # what a name's parts mean, the first that fits
    (re.compile(r"mlm_loss_(.+)"), r"held-out MLM loss on \1"),
    (re.compile(r"pair_accuracy_(.+)"), r"pair accuracy on \1"),
    (re.compile(r"probe_(.+)"), r"probe \1"),
    (re.compile(r"knn_(.+)"), r"kNN \1"),
    (re.compile(r"few_shot_(\d+)_(.+)"), r"\1-shot \2"),
    (re.compile(r"prompt_(.+)"), r"prompt \1"),
    (re.compile(r"cka_layer_(\d+)"), r"CKA with its start, layer \1"),
    (re.compile(r"cka_pre_layer_(\d+)"), r"CKA of pre and ft, layer \1"),
)
_AT = re.compile(r"(.+)_at_([\d.]+)")  # weights between `pre` (0) and `ft` (1)
_PROMPTED = re.compile(r"(.+?)_(uncalibrated|template_\d+|templates_(?:mean|sd|lowest|highest))")  # of a prompt
_NUMBERS = ("cka", "effective_rank", "displacement", "alignment", "uniformity", "pll_")
_LESS_IS_BETTER = ("loss", "nats", "error", "perplexity")


@dataclass(frozen=True)
class Metric:
    """A metric's name taken apart: ``test/probe_pydoc_match_pre`` is split test, what probe_pydoc_match, encoder pre."""

    split: str
    what: str
    encoder: str  # one of ENCODERS, or empty

    @property
    def title(self) -> str:
        """What is measured, in words, without split and encoder."""
        at = _AT.fullmatch(self.what)
        if at is not None:
            return f"{Metric(self.split, at[1], self.encoder).title} at α = {at[2]}"
        for pattern, words in _PATTERNS:
            if pattern.fullmatch(self.what):
                return pattern.sub(words, self.what)
        prompted = _PROMPTED.fullmatch(self.what)
        if prompted is not None:
            return f"{Metric(self.split, prompted[1], self.encoder).title}, {prompted[2].replace('_', ' ')}"
        return _NAMES.get(self.what, self.what.replace("_", " "))

    @property
    def is_loss(self) -> bool:
        """Whether the number is in nats, lower being better."""
        return any(word in self.what for word in ("loss", "nats")) and not self.names_task

    @property
    def names_task(self) -> bool:
        """Whether the name of a task stands in it, which may hold any word: a probe of `lossy` is no loss."""
        return self.what.startswith(TASK_MEASURES)

    @property
    def is_number(self) -> bool:
        """Whether the number has no unit: neither a share, shown × 100, nor nats."""
        return self.what.startswith(_NUMBERS) and not self.names_task

    @property
    def lower_is_better(self) -> bool:
        """Whether an improvement is a decrease."""
        return any(word in self.what for word in _LESS_IS_BETTER) and not self.names_task


def parse_metric(name: str) -> Metric:
    """Take ``<split>/<what>[_<encoder>]`` apart."""
    split, _, rest = name.rpartition("/")
    for encoder in ENCODERS:
        if rest.endswith("_" + encoder):
            return Metric(split, rest[: -len(encoder) - 1], encoder)
    return Metric(split, rest, "")


def measured(value: float | None, metric: Metric, signed: bool = False) -> str:
    """A metric's value: points with one decimal, nats and numbers without a unit with three."""
    if metric.is_number:
        return _number(value, 3 if value is None or abs(value) < 100 else 1, signed)
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
