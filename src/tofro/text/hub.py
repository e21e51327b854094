"""Parquet files and datasets of the Hugging Face hub, by name or from a local folder; all of it needs the extra `hub`.

In: a Parquet file, or settings. Out: a source of raw documents (documents.py), or a ``Corpus``. Rows are read a few at a time: a
dataset lies on disk and is mapped. Under ``HF_HUB_OFFLINE=1`` the library answers from its cache alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tofro.progress import Progress
from tofro.text.corpus import Corpus, corpus_of, read_corpus
from tofro.text.documents import Raw, Reading
from tofro.text.extras import first_line, hub_or_cache, need, open_saved
from tofro.text.files import raw_document, told
from tofro.text.reader import missing_column
from tofro.text.settings import HubSettings

GENERIC_NAME = "hub"  # conf/corpus/hub.yaml
ROWS = 64  # in memory at a time
SAVED = ("dataset_dict.json", "dataset_info.json", "state.json")  # what save_to_disk leaves in a folder


@dataclass(frozen=True)
class ParquetFile:
    """Documents in a column of a Parquet file."""

    path: Path
    column: str

    def __str__(self) -> str:
        return str(self.path)

    def size(self) -> int:
        """Return the bytes of the file."""
        return self.path.stat().st_size

    def documents(self, reading: Reading) -> Iterator[Raw]:
        """Yield the document of every row."""
        arrow = need("pyarrow", f"{self.path} is Parquet, and reading it")
        parquet = need("pyarrow.parquet", f"{self.path} is Parquet, and reading it")
        tell, row, size = told(reading), 0, self.size()
        try:
            with parquet.ParquetFile(self.path) as file:
                if self.column not in file.schema_arrow.names:
                    raise missing_column(self.path, "corpus.text", self.column, file.schema_arrow.names)
                rows = file.metadata.num_rows
                for batch in file.iter_batches(batch_size=ROWS, columns=[self.column], use_threads=False):
                    for value in batch.column(0).to_pylist():
                        row += 1
                        yield raw_document(value, f"{self.path}: row {row}", self.column, reading)
                    tell(size * row // rows)
        except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.path}: not readable as Parquet after row {row} ({first_line(error)})") from error


@dataclass(frozen=True)
class DatasetSplit:
    """Documents in a column of a split of a dataset."""

    name: str
    column: str
    dataset: Any = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self.name

    def size(self) -> int:
        """Return the number of rows."""
        return len(self.dataset)

    def documents(self, reading: Reading) -> Iterator[Raw]:
        """Yield the document of every row."""
        tell, row = told(reading), 0
        for batch in self.dataset.select_columns([self.column]).with_format(None).iter(batch_size=ROWS):
            for value in batch[self.column]:
                row += 1
                yield raw_document(value, f"{self.name}: row {row}", self.column, reading)
            tell(row)


def read_hub_corpus(settings: HubSettings, progress: Progress | None = None) -> Corpus:
    """Return the corpus that ``settings.dataset`` names on the hub, or the one in the folder ``settings.path``.

    The folder holds what ``save_to_disk`` wrote, or files as every other corpus. Raises ValueError where the extra is not
    installed, where a name can't be fetched, and where a split or a column is missing.
    """
    if (settings.dataset is None) == (settings.path is None):
        raise ValueError("corpus=hub needs one of corpus.dataset=NAME (on the hub) and corpus.path=FOLDER (on this machine)")
    if settings.path is not None:
        folder = Path(settings.path).expanduser()
        if not any((folder / name).is_file() for name in SAVED):
            return read_corpus(settings, progress)
        splits = _open_saved(folder, settings)
    else:
        splits = _fetch(settings)
    for split in splits:
        if settings.text not in split.dataset.column_names:
            raise missing_column(Path(split.name), "corpus.text", settings.text, split.dataset.column_names)
    name = settings.name if settings.name != GENERIC_NAME else Path(settings.path or settings.dataset or "").name
    contents = [split.dataset._fingerprint for split in splits]
    return corpus_of(settings, name, contents, tuple(splits[:1]), tuple(splits[1:]), unit="documents")


def _open_saved(folder: Path, settings: HubSettings) -> list[DatasetSplit]:
    saved = open_saved(folder, "corpus.path")
    if not isinstance(saved, dict):
        if settings.validation_split is not None:
            raise ValueError(f"corpus.validation_split={settings.validation_split}: {folder} holds a single split")
        return [DatasetSplit(str(folder), settings.text, saved)]
    splits = []
    for key in ("train_split", "validation_split"):
        wanted = getattr(settings, key)
        if wanted is not None and wanted not in saved:
            raise ValueError(f"corpus.{key}={wanted}: no such split in {folder}; it has {', '.join(saved)}")
        if wanted is not None:
            splits.append(DatasetSplit(f"{folder} ({wanted})", settings.text, saved[wanted]))
    return splits


def _fetch(settings: HubSettings) -> list[DatasetSplit]:
    library = need("datasets", f"corpus.dataset={settings.dataset}")
    splits = []
    for wanted in filter(None, (settings.train_split, settings.validation_split)):
        try:
            with hub_or_cache():
                found = library.load_dataset(settings.dataset, settings.config, split=wanted, revision=settings.revision)
        except Exception as error:  # the library, its file systems and its network layer raise dozens of kinds
            raise ValueError(
                f"corpus.dataset={settings.dataset}: can't be fetched or read ({first_line(error)}). Without a network: where "
                f"there is one, datasets.load_dataset('{settings.dataset}').save_to_disk('FOLDER'), copy FOLDER here and give "
                "corpus.path=FOLDER instead of corpus.dataset"
            ) from error
        splits.append(DatasetSplit(f"{settings.dataset} ({wanted})", settings.text, found))
    return splits
