"""No two arms look alike, whoever looks and on whichever paper."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tofro.reports.arms import _FIRST, arms_of
from tofro.reports.collect import RunRecord
from tofro.reports.looks import HUES, METHODS, Look, looks_of
from tofro.reports.variants import name_variants

EYES = {  # linear RGB as seen under a full deficiency (Machado, Oliveira and Fernandes 2009)
    "common": np.eye(3),
    "protan": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deutan": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "tritan": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}
LIGHT, DARK = "#fdfdfc", "#14171a"  # the page's papers


def linear(colour: str) -> np.ndarray:
    parts = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def seen(colour: str, eyes: str) -> np.ndarray:
    """CIELAB (D65) of what these eyes make of a colour."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(EYES[eyes] @ linear(colour), 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", EYES)
def test_methods_are_told_apart_by_marker_or_by_colour(eyes: str) -> None:
    for (one, a), (other, b) in itertools.combinations(METHODS.items(), 2):
        distance = np.linalg.norm(seen(a.colour, eyes) - seen(b.colour, eyes))
        assert a.marker != b.marker or distance > 20, (one, other, distance)


def test_every_colour_is_legible_on_both_papers() -> None:
    for colour in HUES:
        for paper in (LIGHT, DARK):
            low, high = sorted(linear(each) @ np.array([0.2126, 0.7152, 0.0722]) for each in (colour, paper))
            assert (high + 0.05) / (low + 0.05) >= 3, (colour, paper)  # WCAG: graphical objects


def test_every_method_has_a_look_of_its_own() -> None:
    assert set(METHODS) >= {*_FIRST} - {"pretrain"}
    assert len(set(METHODS.values())) == len(METHODS)


def test_sixty_variants_have_sixty_looks_and_leave_the_methods_theirs(tmp_path) -> None:
    runs = [
        RunRecord(tmp_path / f"{method}{place}", "1" * 8, method, 0, task="kind", config={"optimizer.lr": place})
        for method, count in (("two_way", 60), ("full", 1), ("ema", 1))
        for place in range(count)
    ]
    runs = list(name_variants(runs))
    looks = looks_of(runs)
    assert len(looks) == len(arms_of(runs, "kind")) == 62
    assert len({(look.colour, look.marker) for look in looks.values()}) == 62
    assert looks["full"] == METHODS["full"] == Look(METHODS["full"].colour)
    assert looks["ema"] == METHODS["ema"]
