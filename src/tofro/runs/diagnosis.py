"""What is odd about a prompt: what the model itself writes into the blanks, and how often pretraining met the label words.

In: a scorer, a task's training texts (no labels), and where it is known the corpus of the run that ``init_from`` names. Out:
``prompt.json`` in the run's folder, and a note for every label word that was rare. Nothing here bears on a score.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from tofro.config.reload import reload
from tofro.modules.blanks import Blanks
from tofro.modules.prompting import ClozeScorer, Scorer
from tofro.runs.context import Context
from tofro.runs.folder import read_result, write_json
from tofro.text.fingerprint import share_of
from tofro.text.task import Example, Task
from tofro.tokens.cloze import MASK, LabelWord
from tofro.tokens.store import TokenStore

TEXTS = 64  # a sample, by content hash
TOP = 10  # tokens shown for each mask


def diagnose(context: Context, scorer: Scorer, task: Task) -> list[str]:
    """Write ``prompt.json`` and return the notes."""
    settings = scorer.settings
    sample = sorted(task.splits["train"], key=lambda row: share_of("prompt", row.text_a, row.text_b))[:TEXTS]
    templates = settings.templates or list(scorer.usual)
    words = scorer.wordings[0].words
    fills = template_fills(scorer, templates, sample) if isinstance(scorer, ClozeScorer) else []
    store, why = pretraining_store(context)
    counts = None if store is None else occurrences(store, words)
    found: dict[str, Any] = {
        "templates": [{"template": template, "fills": each} for template, each in zip(templates, fills, strict=False)],
        "texts": len(sample),
        "rare": settings.rare,
        "corpus": why if store is None else store.meta["corpus_name"],
        "words": [
            {"label": scorer.labels[word.label], "word": word.word, "occurrences": None if counts is None else counts[number]}
            for number, word in enumerate(words)
        ],
    }
    write_json(context.folder / "prompt.json", found)
    if store is None or counts is None:
        return [f"how often pretraining met the label words is not known: {why}"]
    rare = [
        f"{word.word} ({scorer.labels[word.label]}, {count})"
        for word, count in zip(words, counts, strict=True)
        if count < settings.rare
    ]
    few = f"label words that {store.name} holds fewer than {settings.rare} times, which the model hardly knows"
    return [f"{few}: {', '.join(rare)}"] if rare else []


def template_fills(scorer: Scorer, templates: Sequence[str], sample: Sequence[Example]) -> list[list[dict[str, float]]]:
    """Return for each template and each of its masks the likeliest tokens and their mean probability over ``sample``."""
    blanks = Blanks(scorer.model, scorer.tokenizer, scorer.pair, scorer.max_length)
    result = []
    for number, template in enumerate(templates):
        mean = blanks.log_probabilities(template, sample, f"prompt.templates[{number}]").exp().mean(0)  # (k, V)
        tops = [each.topk(min(TOP, len(each))) for each in mean]
        result.append(
            [
                {str(scorer.tokenizer.token(int(index))): round(float(value), 6) for value, index in zip(*top, strict=True)}
                for top in tops
            ]
        )
    assert all(len(each) == template.count(MASK) for template, each in zip(templates, result, strict=True))
    return result


def pretraining_store(context: Context) -> tuple[TokenStore | None, str]:
    """Return the tokens that the run's start was pretrained on, found through the runs between; else None and why not."""
    place = context.config.init_from
    while place is not None:
        folder = Path(place).expanduser()
        folder = folder.parent.parent if folder.parent.name == "models" else folder
        if not (folder / "config.yaml").is_file():
            break
        try:
            config, result = reload(folder / "config.yaml"), read_result(folder)
            if config.init_from is None:
                return _store_of(context, config, folder, (result or {}).get("data", {}).get("corpus")), ""
        except (ValueError, OSError, OmegaConfBaseException) as error:
            return None, f"the corpus of {folder.name} can't be read ({str(error).splitlines()[0]})"
        place = config.init_from
    return None, "init_from comes from no pretraining of tofro"


def _store_of(context: Context, config: DictConfig, folder: Path, corpus: str | None) -> TokenStore:
    """Return the store that the pretraining in ``folder`` read: what it left there, else made here, once for all runs."""
    tokenizer = context.start.tokenizer.fingerprint
    for cache in (context.cache, folder.parent.parent / "cache"):
        for path in sorted((cache / "stores").glob("*-train-*/meta.json")):
            store = TokenStore(path.parent)
            if (store.meta["corpus"], store.meta["tokenizer"]) == (corpus, tokenizer):
                return store
    return context.store("train", Context(config, folder).corpus)


def occurrences(store: TokenStore, words: Sequence[LabelWord]) -> list[int]:
    """Return how often each word stands in ``store`` as a whole word, or several."""
    starts = np.append(store.word_starts, True)
    return [_count(store.ids, starts, word.ids) for word in words]


def _count(ids: np.ndarray, starts: np.ndarray, word: np.ndarray) -> int:
    places = np.flatnonzero(ids[: len(ids) - len(word) + 1] == word[0])
    for offset, number in enumerate(word[1:], 1):
        places = places[ids[places + offset] == number]
    return int(np.count_nonzero(starts[places] & starts[places + len(word)]))
