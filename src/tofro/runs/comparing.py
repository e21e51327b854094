"""What training did to representations: encoders compared with their starts and with each other, on the same held-out sentences.

In: a run's context, ``pre`` and ``ft`` after the run. Out: ``{"<split>/<what>_<encoder>": number}``. Leaves out the formulas
(measures/similarity.py) and what is measured of one model alone (measuring.py).
"""

from __future__ import annotations

import numpy as np

from tofro.encoders.model import Model
from tofro.measures.similarity import alignment, displacement, displacement_cosine, linear_cka
from tofro.runs.context import Context
from tofro.runs.measuring import sentence_layers


def changes(context: Context, pre: Model, ft: Model) -> dict[str, float]:
    """Return how far ``pre`` and ``ft`` have come from their starts and from each other.

    For an encoder that moved: ``validation/cka_layer_<l>_<encoder>`` (0 the embeddings) and ``validation/alignment_<encoder>``,
    each between the encoder and its start, and ``train/displacement_<encoder>``. Between the two:
    ``validation/cka_pre_layer_<l>_ft``, where both have as many layers, ``validation/alignment_pre_ft``, where they are as wide,
    and ``train/displacement_cosine`` where both moved. A ``pre`` that is the run's start itself has not moved. Empty with
    ``method.measure=false``.
    """
    if not context.config.method.measure:
        return {}
    start, start_ft = context.start.model, context.start_ft.model
    values = between(context, {"pre": pre, "start": start, "ft": ft, "start_ft": start_ft})
    values["train/displacement_ft"] = displacement(ft.encoder, start_ft.encoder)
    if pre is not start:
        values["train/displacement_pre"] = displacement(pre.encoder, start.encoder)
        cosine = displacement_cosine(pre.encoder, start.encoder, ft.encoder, start_ft.encoder)
        values |= {} if cosine is None else {"train/displacement_cosine": cosine}
    return values


def between(context: Context, models: dict[str, Model]) -> dict[str, float]:
    """Return CKA and alignment of ``pre`` and ``ft`` with their starts and each other, as far as they are among ``models``."""
    if not context.config.method.sentences:
        return {}
    layers: dict[int, np.ndarray] = {}  # of each model that takes part, once

    def of(name: str) -> np.ndarray:
        model = models[name]
        if id(model) not in layers:
            layers[id(model)] = sentence_layers(context, model)
        return layers[id(model)]

    values: dict[str, float] = {}
    for encoder, other, name in (("pre", "start", ""), ("ft", "start_ft", ""), ("ft", "pre", "pre_")):
        if {encoder, other} <= set(models) and models[encoder] is not models[other]:
            found = similarities(of(other), of(encoder), name)
            values |= {f"validation/{what}_{encoder}": value for what, value in found.items()}
    return values


def similarities(x: np.ndarray, y: np.ndarray, name: str) -> dict[str, float]:
    """Return ``cka_<name>layer_<l>`` of features (L + 1, N, D), (M + 1, N, E) where L = M, ``alignment_<name>`` where D = E."""
    values = {}
    if len(x) == len(y):
        values = {f"cka_{name}layer_{layer}": linear_cka(one, other) for layer, (one, other) in enumerate(zip(x, y, strict=True))}
    if x.shape[-1] == y.shape[-1]:
        values[f"alignment_{name}".rstrip("_")] = alignment(x[-1], y[-1])
    return values
