"""Building the token store beside ``datasets.map``: the same text and tokenizer, from a text file to token ids on disk.

tofro reads the corpus and writes its store (ids, word starts, offsets). The peer is ``load_dataset("text")`` and a batched
``map`` of the same tokenizer.json over as many processes as there are cores, keeping ids alone. Two rows: against both, as a user
waits for them, and against ``map`` alone, where the reading of the text counts for tofro only.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import datasets

from benchmarks.material import Options, hugging_face_tokenizer
from benchmarks.report import Row, speed_row
from benchmarks.timing import alternate
from tofro.text.corpus import read_corpus
from tofro.text.settings import CorpusSettings
from tofro.tokens.store import open_store
from tofro.tokens.tokenizer import Tokenizer
from tofro.tokens.workers import usable_cores

ROUNDS, GOAL, QUICK_DOCUMENTS = 3, 1.5, 200


def run(options: Options) -> list[Row]:
    """Return the rows against loading and mapping, and against mapping alone."""
    context = options.context("method=pretrain")
    tokenizer = context.start.tokenizer
    peer = hugging_face_tokenizer(tokenizer)
    cores = usable_cores()
    with tempfile.TemporaryDirectory() as place:
        text = Path(place) / "train.txt"
        (text.parent / "validation.txt").write_text("A folder with this file keeps the whole of the other for training.\n")
        sentences = write_text(context.corpus.documents("train"), text, QUICK_DOCUMENTS if options.quick else None)
        size = text.stat().st_size / 1e6
        mapping: list[float] = []

        def theirs() -> float:
            loading, alone = build_theirs(text, peer, cores)
            mapping.append(size / alone)
            return size / (loading + alone)

        rounds = options.times(ROUNDS)
        rates = alternate({"tofro": lambda: size / build_ours(text, tokenizer), "datasets": theirs}, rounds)
    note = f"MB of text/s; {rounds} rounds over {size:.1f} MB, {sentences:,} sentences; {cores} processes for map"
    against_map = {"tofro": rates["tofro"], "datasets": mapping}
    return [
        speed_row("store", "datasets, load and map", rates, GOAL, note),
        speed_row("store", "datasets, map alone", against_map, GOAL, ""),
    ]


def write_text(documents: Iterator[list[str]], path: Path, limit: int | None) -> int:
    """Write documents, one sentence a line, a blank line after each; return the number of sentences."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for number, document in enumerate(documents):
            if number == limit:
                break
            count += len(document)
            file.write("\n".join([*document, "", ""]))
    return count


def build_ours(text: Path, tokenizer: Tokenizer) -> float:
    """Return the seconds that tofro takes from ``text`` to a store on disk."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        corpus = read_corpus(CorpusSettings(name="bench", path=str(text.parent)))
        open_store(Path(folder), corpus, "train", tokenizer)
        return time.perf_counter() - started


def build_theirs(text: Path, tokenizer: Any, cores: int) -> tuple[float, float]:
    """Return the seconds that datasets takes to load ``text``, and to map the tokenizer over it; both write their files."""
    with tempfile.TemporaryDirectory() as folder, quiet_datasets():
        started = time.perf_counter()
        lines = datasets.load_dataset("text", data_files=str(text), split="train", cache_dir=folder)
        loaded = time.perf_counter()
        lines.map(partial(encode, tokenizer=tokenizer), batched=True, num_proc=cores, remove_columns=["text"])
        return loaded - started, time.perf_counter() - loaded


def encode(rows: dict[str, list[str]], tokenizer: Any) -> dict[str, Any]:
    """Return the token ids of a batch of rows and nothing else, the least work that can be asked for."""
    asked = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}
    return {"input_ids": tokenizer(rows["text"], **asked)["input_ids"]}


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """Keep bars out of the terminal; let map's processes share out the cores instead of each taking all of them."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        os.environ.pop("TOKENIZERS_PARALLELISM")
        if before is not None:
            os.environ["TOKENIZERS_PARALLELISM"] = before
