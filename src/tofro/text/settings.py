"""Settings of corpora and tasks: where text comes from and how it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from omegaconf import MISSING

from tofro.declare import setting


@dataclass
class CorpusSettings:
    """Unlabelled documents, each a list of sentences."""

    _target_: str = setting("tofro.text.corpus.read_corpus", "function that reads the corpus: settings -> Corpus")
    name: str = setting(MISSING, "name in run folders and reports")
    path: Optional[str] = setting(
        None, "file, glob, or folder with train and validation files (.txt and .jsonl, also .gz; .parquet with the extra hub)"
    )
    text: str = setting("text", "column of JSON lines and Parquet that holds a document: a string, or a list of its sentences")
    unit: str = setting("sentence", "what one line holds", choices=("sentence", "paragraph"))
    language: str = setting("en", "ISO 639-1 code; chooses the sentence splitter where unit is paragraph, and `words`")
    words: str = setting(
        "auto",
        "what a whole word is. segmenter: Chinese words (extra zh); tokenizer: cut at white space and punctuation, each Han "
        "character by itself; auto: segmenter for language zh, else tokenizer",
        choices=("auto", "tokenizer", "segmenter"),
    )
    validation_share: float = setting(
        0.02, "share of documents held out, by content hash, where there is no validation file", above=0, below=1
    )


def word_source(words: str, language: str) -> str:
    """Return where the words of a corpus come from: ``tokenizer`` or ``segmenter``."""
    if words != "auto":
        return words
    return "segmenter" if base_language(language) == "zh" else "tokenizer"


def base_language(language: str) -> str:
    """Return the language of a code that may name a region or a script: zh of zh-CN and of zh_Hans."""
    return language.replace("_", "-").partition("-")[0].lower()


@dataclass
class HubSettings(CorpusSettings):
    """A dataset of the Hugging Face hub, by name or in a folder of this machine (``path``)."""

    dataset: Optional[str] = setting(None, "name on the hub, such as wikimedia/wikipedia; a local one goes into corpus.path")
    config: Optional[str] = setting(None, "configuration of the dataset, such as 20231101.en")
    revision: Optional[str] = setting(None, "commit or tag of the dataset; null means its newest")
    train_split: str = setting("train", "split to train on; slices such as train[:10%] are allowed for datasets by name")
    validation_split: Optional[str] = setting(None, "split to validate on; null holds out validation_share of the train split")


@dataclass
class TaskSettings:
    """Labelled examples with a metric."""

    _target_: str = setting("tofro.text.task.read_task", "function that reads the task: settings -> Task")
    name: str = setting(MISSING, "name in run folders and reports")
    path: Optional[str] = setting(
        None,
        "a file, a glob, or a folder with train, validation, test (.jsonl, .csv, .tsv, also .gz; .parquet with the extra hub)",
    )
    text_a: Optional[str] = setting(None, "column of the first text; null means `text_a`, else `text`, else `tokens`")
    text_b: Optional[str] = setting(None, "column of the second text; null means `text_b` where there is one")
    label: str = setting("label", "column of the label; where words are tagged and there is no such column, `tags`")
    kind: str = setting(
        "auto",
        "auto: tags where a row has a list of words and a list of tags, regression where every label is a number and one has a "
        "fraction (0.5, 5.0), else classification",
        choices=("auto", "classification", "regression", "tags"),
    )
    metric: str = setting(
        "auto",
        "auto: accuracy, or spearman for regression, or entity_f1 for tags that mark entities",
        choices=("auto", "accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman", "entity_f1"),
    )
    positive: Optional[str] = setting(None, "label that counts as positive in metric f1; null means the last by name")
    train_rows: Optional[int] = setting(None, "use so many training rows, chosen by content hash, the same for every seed", low=2)
    validation_rows: Optional[int] = setting(
        None, "validate on so many rows at most, chosen by content hash, the same for every seed; null means all", low=2
    )
    per_class: Optional[int] = setting(
        None,
        "learn from so many training rows of each label, chosen by content hash, and validate on as many others; "
        "in a regression, so many in all; null means all rows",
        low=1,
    )
    draw: int = setting(0, "which of the ways to choose task.per_class rows; task.draw=${seed} ties it to the seed", low=0)
    split_file: Optional[str] = setting(
        None, "file that chooses the rows in place of task.per_class, as a run with that key writes it under few_shot/"
    )
    validation_share: float = setting(0.1, "share of train carved off by content hash where a split is missing", above=0, below=1)
    on_bad_row: str = setting(
        "error", "a row that can't be read stops the run, or is set aside and counted", choices=("error", "quarantine")
    )
    on_leak: str = setting(
        "keep",
        "validation and test rows whose texts train has too (case, spaces and punctuation aside): kept and counted, or dropped",
        choices=("keep", "drop"),
    )
    max_length: int = setting(
        128, "tokens a sequence may hold, special ones included; longer texts are cut symmetrically", low=8, high=8192
    )


@dataclass
class HubTaskSettings(TaskSettings):
    """A dataset of the Hugging Face hub, by name; or the same task from files of this machine (``path``)."""

    dataset: Optional[str] = setting(
        None, "name on the hub, such as nyu-mll/glue; the same task from local files goes into task.path"
    )
    config: Optional[str] = setting(None, "configuration of the dataset, such as sst2")
    revision: Optional[str] = setting(None, "commit, tag or branch of the dataset; null means its newest")
    train_split: str = setting("train", "split to train on")
    validation_split: Optional[str] = setting("validation", "split to validate on; null: carved from train")
    test_split: Optional[str] = setting("test", "split to test on; null: the validation split serves as test")
    hub_text_a: Optional[str] = setting(
        None, "the dataset's column of the first text, where its columns are not named as tofro's"
    )
    hub_text_b: Optional[str] = setting(None, "the dataset's column of the second text, likewise")
    hub_label: Optional[str] = setting(None, "the dataset's column of the label, likewise")
    join: Optional[str] = setting(None, "what makes one text of a list of strings in a dataset; null refuses such a list")
    spans: Optional[str] = setting(
        None,
        "a dataset's column that says where two spans of the first text are (span1_text, span1_index, span2_text, span2_index): "
        "the first is put in [ ], the second between _ _",
    )
