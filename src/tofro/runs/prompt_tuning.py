"""Whether a run's task is answered by a cloze that trains, and which one: ``method.answer=cloze`` with a ``prompt``.

In: a run's context. Out: :class:`~tofro.modules.cloze_output.ClozeOutput`, or None where a task head answers. Any method that
trains on a task can ask this way; ``method=prompt_tune`` and ``method=prompt_tune_two_way`` are presets.
"""

from __future__ import annotations

from tofro.config.build import resolve
from tofro.config.identity import is_set
from tofro.modules.cloze_output import ClozeOutput
from tofro.modules.prompting import ClozeScorer
from tofro.runs.context import Context


def cloze_of(context: Context) -> ClozeOutput | None:
    """Return what answers the run's task in place of a task head. ValueError where the prompt, task or start can't be trained."""
    config, task = context.config, context.task
    if config.method.answer != "cloze":
        return None
    if not is_set(config.prompt):
        raise ValueError(f"prompt=none: method={config.method.name} trains a cloze; choose one with prompt=NAME")
    scorer = resolve(config.prompt._target_)
    if not (isinstance(scorer, type) and issubclass(scorer, ClozeScorer)):
        raise ValueError(f"prompt: {config.prompt._target_} can't be trained, only a cloze; choose a prompt with [MASK]")
    if task.kind != "classification":
        raise ValueError(
            f"method={config.method.name}: {task.name} is a {task.kind} task, and a cloze chooses among labels of texts; "
            "use method=full, partial or two_way"
        )
    if "mlm" in context.start_ft.fresh:
        raise ValueError(
            f"init_from: method={config.method.name} trains a pretrained head for masked words, and the start's holds random "
            "weights; name a finished run's folder or a model folder that has one"
        )
    return ClozeOutput(context.settings("prompt"), context.start.tokenizer, task.labels, task.pair, config.task.max_length)
