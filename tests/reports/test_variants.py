"""A row of a table is one config over seeds: runs that differ in anything else are told apart by it, and only by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tofro.reports.arms import arms_of
from tofro.reports.collect import RunRecord
from tofro.reports.variants import name_variants

LOSS = "alignment.loss._target_"
INFONCE, MSE = "tofro.objectives.alignment.infonce", "tofro.objectives.alignment.mse"


def run(seed: int = 0, method: str = "two_way", variant: str = "", start: str | None = "0a1b2c3d", **config: Any) -> RunRecord:
    """A finished run on one task; dots in keys are written as two underscores."""
    keys = {name.replace("__", "."): value for name, value in config.items()}
    keys |= {"seed": seed, "init_from": f"run:{start}"}
    name = f"{method}-{seed}-{variant}-{start}-{sorted(keys.items())}"
    return RunRecord(Path(name), "1" * 8, method, seed, variant, "kind", lineage={"init_from": start}, config=keys)


def variants(*runs: RunRecord) -> list[str]:
    return [each.variant for each in name_variants(runs)]


def rows(*runs: RunRecord) -> dict[str, int]:
    """Return {label of a row: its runs} of the table."""
    return {arm.label: len(arm.runs) for arm in arms_of(name_variants(runs), "kind")}


def test_seeds_are_not_variants() -> None:
    assert rows(*(run(seed, alignment__weight=0.5) for seed in range(3))) == {"two_way": 3}
    assert variants(run(0, start="00000000"), run(1, start="11111111")) == ["", ""]  # nor are starts of another seed


def test_draws_of_few_rows_are_no_variants_and_their_number_is() -> None:
    runs = [run(seed, task__per_class=k, **({"task__draw": seed} if seed else {})) for k in (4, 16) for seed in range(3)]
    assert rows(*runs) == {"two_way, task.per_class=4": 3, "two_way, task.per_class=16": 3}


def test_the_draws_of_a_search_are_one_row() -> None:
    found = [run(seed, method="prompt", variant="template 0", prompt__draw=seed) for seed in range(1, 4)]
    assert rows(run(0, method="prompt", variant="template 0"), *found) == {"prompt, template 0": 4}


def test_a_template_that_is_trained_is_a_variant_and_one_that_is_only_asked_is_not() -> None:
    trained = {"method": "prompt_tune", "method__answer": "cloze"}
    assert variants(run(**trained), run(**trained, prompt__template=1)) == ["", "prompt.template=1"]
    assert variants(run(method="full"), run(method="full", prompt__template=1)) == ["", ""]


def test_two_weights_are_two_rows_and_a_default_goes_unsaid() -> None:
    runs = [run(seed, **weight) for weight in ({"alignment__weight": 0.5}, {}) for seed in range(3)]
    assert rows(*runs) == {"two_way, λ=0.5": 3, "two_way": 3}


def test_only_what_differs_is_told() -> None:
    one, two = run(optimizer__lr=3, tuning__k=1, budget__steps=9), run(optimizer__lr=3, tuning__k=2, budget__steps=9)
    assert variants(one, two) == ["k=1", "k=2"]


def test_methods_and_tasks_are_compared_with_their_like() -> None:
    assert variants(run(method="full", optimizer__lr=1), run(method="two_way", optimizer__lr=2)) == ["", ""]


def test_a_run_from_scratch_says_so() -> None:
    assert variants(run(method="full"), run(method="full", start=None)) == ["", "from scratch"]
    assert variants(run(method="full", start=None)) == [""]
    assert variants(run(method="pretrain", start=None), run(1, method="pretrain", start="0a1b2c3d")) == ["", ""]


def test_a_named_part_stands_for_what_it_brings() -> None:
    one = run(**{LOSS: INFONCE, "alignment__loss__temperature": 0.07})
    two = run(**{LOSS: MSE})
    assert variants(one, two) == ["infonce", "mse"]


def test_two_settings_of_one_named_part_are_two_rows() -> None:
    """A row must never be a mixture, also where a third run differs in the part itself."""
    runs = [run(seed, **{LOSS: INFONCE, "alignment__loss__temperature": heat}) for heat in (0.07, 0.2) for seed in (0, 1)]
    runs += [run(seed, **{LOSS: MSE}) for seed in (0, 1)]
    assert rows(*runs) == {
        "two_way, infonce, alignment.loss.temperature=0.07": 2,
        "two_way, infonce, alignment.loss.temperature=0.2": 2,
        "two_way, mse": 2,
    }


def test_what_a_part_only_repeats_is_told_once() -> None:
    """``alignment.temperature`` is handed on to the loss, whose config holds it too; at its default it stands there alone."""
    warm, cold = {"alignment__temperature": 0.2, "alignment__loss__temperature": 0.2}, {"alignment__loss__temperature": 0.07}
    runs = [run(seed, **{LOSS: INFONCE}, **heat) for heat in (warm, cold) for seed in (0, 1)] + [run(**{LOSS: MSE})]
    assert rows(*runs) == {"two_way, infonce, τ=0.2": 2, "two_way, infonce": 2, "two_way, mse": 1}


def test_what_only_refuses_runs_is_no_variant() -> None:
    """SupCon brings a least number of examples per class with it, at which a run is refused and by which none is changed."""
    supcon = {LOSS: "tofro.objectives.alignment.supcon", "alignment__least_per_class": 2}
    assert rows(run(**supcon), run(**{LOSS: INFONCE})) == {"two_way, supcon": 1, "two_way, infonce": 1}


def test_a_schedule_is_not_taken_for_a_loss_of_its_name() -> None:
    """There is a cosine of either kind."""
    name = "alignment.schedule._target_"
    one = run(**{LOSS: "tofro.objectives.alignment.cosine", name: "tofro.objectives.schedules.constant"})
    two = run(**{LOSS: INFONCE, name: "tofro.objectives.schedules.cosine"})
    assert variants(one, two) == ["cosine, schedule constant", "infonce, schedule cosine"]


def test_templates_are_no_variants_and_their_calibrations_are() -> None:
    prompts = [
        run(method="prompt", variant=f"template {template}", prompt__template=template, prompt__calibration=calibration)
        for calibration in ("none", "contextual")
        for template in range(3)
    ]
    assert rows(*prompts[:3]) == {"prompt, 3 templates": 3}
    assert rows(*prompts) == {
        "prompt, prompt.calibration=none, 3 templates": 3,
        "prompt, prompt.calibration=contextual, 3 templates": 3,
    }


def test_the_order_of_runs_is_kept() -> None:
    runs = [run(0, method="full"), run(0), run(1, method="full"), run(1)]
    assert [each.method for each in name_variants(runs)] == ["full", "two_way", "full", "two_way"]


def test_a_control_is_told_by_its_name_alone() -> None:
    brought = {"control__task_loss": False, "budget__best": False}
    runs = [run(seed, **keys) for keys in ({"alignment__weight": 0.1}, {"alignment__weight": 0.5}) for seed in range(2)]
    runs += [run(seed, variant="no_task", **brought) for seed in range(2)]
    assert rows(*runs) == {"two_way, λ=0.1": 2, "two_way, λ=0.5": 2, "two_way, no_task": 2}


def test_a_control_without_a_name_is_told_by_its_key() -> None:
    assert rows(run(0), run(1), run(0, control__random_ft=True)) == {"two_way": 2, "two_way, control.random_ft=True": 1}
