"""A small grammar of templates: patterns with slots become the templates that a search tries. Torch-free.

In: patterns such as ``"{text_a} <lead> [MASK]<end>"`` and what each slot may hold. Out: all templates that suit a task, in a
fixed order. The grammar is data (conf/prompt/search*.yaml); leaves out whether a template is any good.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

_SLOT = re.compile(r"<(\w+)>")


def expand(patterns: Sequence[str], slots: Mapping[str, Sequence[str]], pair: bool) -> list[list[str]]:
    """Return the templates of each pattern that suits the task: those with {text_b} go with pairs, the others with single texts.

    Raises ValueError, with the key, for a slot that has no fillings and where no pattern suits.
    """
    suiting = [(number, pattern) for number, pattern in enumerate(patterns) if ("{text_b}" in pattern) == pair]
    if not suiting:
        kind = "pairs, with {text_b}" if pair else "single texts, without {text_b}"
        raise ValueError(f"prompt.patterns: none is for {kind}; add one, such as '{{text_a}} It was [MASK].'")
    return [_fill(pattern, slots, f"prompt.patterns[{number}]") for number, pattern in suiting]


def _fill(pattern: str, slots: Mapping[str, Sequence[str]], where: str) -> list[str]:
    names = list(dict.fromkeys(_SLOT.findall(pattern)))
    for name in names:
        if not slots.get(name):
            raise ValueError(f"{where}: <{name}> has nothing to hold; give prompt.slots.{name} a list of wordings")
    templates = []
    for chosen in itertools.product(*(slots[name] for name in names)):
        held = dict(zip(names, chosen, strict=True))
        filled = _SLOT.sub(lambda match, held=held: held[match[1]], pattern)  # type: ignore[misc]
        templates.append(re.sub(r"  +", " ", filled).strip())
    return list(dict.fromkeys(templates))
