"""What an encoder knows of language: held-out masked tokens, pairs and sentences, in domain and out of it.

In: a run's context and a model. Out: ``{what: number}``; of another corpus than the run's own with that corpus' name behind it.
Leaves out the numbers themselves (measures/mlm.py, pseudo.py, leak.py) and when they are kept (measuring.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tofro.batches.pretraining import evaluation_batches, evaluation_sentences
from tofro.batches.types import Batch
from tofro.config.build import build
from tofro.config.compose import compose
from tofro.encoders.model import Model
from tofro.measures.leak import leak_accuracy
from tofro.measures.mlm import retention, unigram, unigram_log_probabilities
from tofro.measures.pseudo import pseudo_log_likelihood
from tofro.runs.context import Context
from tofro.text.corpus import GENERIC_NAME, Corpus, read_corpus
from tofro.text.settings import CorpusSettings
from tofro.tokens.segmenter import words_made_by

Keep = Callable[[list[Any], Callable[[], dict[str, float]]], dict[str, float]]  # (made by, compute) -> kept or computed
BATCH = 64  # sequences of an evaluation batch; no measure depends on it
BUILT_IN = "pydoc"  # the corpus that has a name and no path


def measured_language(context: Context, model: Model, keep: Keep) -> dict[str, float]:
    """Return retention: held-out MLM loss and pair accuracy, in domain and out (``method.corpora``), and with
    ``method.pseudo_log_likelihood`` the score of sentences.
    """
    objective = context.settings("objective")
    limit = [] if context.config.method.held_out is None else [context.config.method.held_out]

    def known_of(corpus: Corpus) -> dict[str, float]:
        by = [corpus.fingerprint, vars(objective), *words_made_by(corpus.words).values(), *limit]
        return keep(by, lambda: held_out(context, model, corpus))

    known = known_of(context.corpus)
    for corpus in other_corpora(context):
        known |= {f"{name}_{corpus.name}": value for name, value in known_of(corpus).items()}
    if sentences := context.config.method.pseudo_log_likelihood:
        by = [context.corpus.fingerprint, "pseudo-log-likelihood", sentences, objective.length]
        known |= keep(by, lambda: sentence_scores(context, model))
    return known


def other_corpora(context: Context) -> list[Corpus]:
    """Return the corpora of ``method.corpora``; what is the run's own corpus is left out.

    They are read as ``corpus=text`` reads them, in the language of the run's corpus. ValueError where two bear one name.
    """
    found: dict[str, Corpus] = {}
    for place in context.config.method.corpora:
        corpus = _read(context, place)
        if corpus.fingerprint == context.corpus.fingerprint:
            continue
        if corpus.name == context.corpus.name or corpus.name in found:
            raise ValueError(f"method.corpora: {place} is called {corpus.name}, as another corpus that is measured; rename it")
        found[corpus.name] = corpus
    return list(found.values())


def _read(context: Context, place: str) -> Corpus:
    if place == BUILT_IN:
        built_in = compose([f"corpus={BUILT_IN}"]).corpus
        corpus: Corpus = build(built_in)
        return corpus
    own = context.config.corpus
    settings = CorpusSettings(name=GENERIC_NAME, path=place, language=own.language, words=own.words)
    return context.with_words(read_corpus(settings), settings)


def held_out(context: Context, model: Model, corpus: Corpus) -> dict[str, float]:
    """Return the fixed-mask MLM loss and the pair accuracy on a corpus' held-out split, where the model has the heads."""
    if not {"mlm", "pair"} & set(model.heads):
        return {}
    return retention(model, _held_out_batches(context, corpus))


def sentence_scores(context: Context, model: Model) -> dict[str, float]:
    """Return the pseudo-log-likelihood of held-out sentences, where the model has the language head."""
    if "mlm" not in model.heads:
        return {}
    store, longest = context.store("validation"), context.config.objective.length - 2
    starts, lengths = evaluation_sentences(store, context.config.method.pseudo_log_likelihood, longest)
    return pseudo_log_likelihood(model, context.start.tokenizer, store.ids, starts, lengths)


def chance(context: Context) -> dict[str, float]:
    """Return what needs no encoder: the unigram cross-entropy of the same positions, and the leak classifier's accuracy."""
    tokenizer, train = context.start.tokenizer, context.store("train")
    table = unigram_log_probabilities(train.ids, tokenizer.vocabulary)
    values = unigram(_held_out_batches(context, context.corpus), table)
    values |= leak_accuracy(train, context.store("validation"), tokenizer, context.settings("objective"))
    return {f"validation/{name}": value for name, value in values.items()}


def _held_out_batches(context: Context, corpus: Corpus) -> Iterable[Batch]:
    store, limit = context.store("validation", corpus), context.config.method.held_out
    return evaluation_batches(store, context.start.tokenizer, context.settings("objective"), BATCH, limit)
