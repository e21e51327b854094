"""What is measured on: configs, corpus, tokenizer and task, made by tofro's own run path and handed to both sides.

In: :class:`Options`. Out: a :class:`~tofro.runs.context.Context` as a run has it, and its tokenizer as a transformers object.
Every comparison shares text, tokenizer and the rows of the embedding table.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerFast

from tofro.config.compose import compose
from tofro.runs.context import Context
from tofro.tokens.tokenizer import Tokenizer

VOCABULARY = 32_768
Case = TypeVar("Case")


@dataclass(frozen=True)
class Options:
    """What the command line says. ``quick`` shrinks everything to a check that it runs."""

    corpus: str | None = None
    task: str | None = None
    quick: bool = False
    precision: str = "32"
    compile: bool = False
    outputs: str = "outputs"

    def size(self, full: str) -> str:
        """Return an option of conf/encoder."""
        return full.replace("mini", "tiny").replace("base", "tiny") if self.quick else full

    def cases(self, full: tuple[Case, ...]) -> tuple[Case, ...]:
        """Return the cases to measure: all of them, or the first, since sizes shrink to the same."""
        return full[:1] if self.quick else full

    def times(self, full: int) -> int:
        """Return a number of steps or rounds."""
        return min(full, 2) if self.quick else full

    @cached_property
    def corpus_overrides(self) -> list[str]:
        """Return which corpus, and a tokenizer of the common vocabulary."""
        corpus = ["corpus=pydoc"] if self.corpus is None else ["corpus=text", f"corpus.path={Path(self.corpus).absolute()}"]
        return [*corpus, f"tokenizer.vocabulary={VOCABULARY}", f"outputs_dir={Path(self.outputs).absolute()}"]

    @cached_property
    def task_overrides(self) -> list[str]:
        """Return which task."""
        return ["task=pydoc_kind"] if self.task is None else ["task=file", f"task.path={Path(self.task).absolute()}"]

    def context(self, *overrides: str) -> Context:
        """Return a run's context. Nothing is written into its folder: fits and runs get temporary ones of their own."""
        return Context(compose([*self.corpus_overrides, *overrides]), Path("unused"))


def hugging_face_tokenizer(tokenizer: Tokenizer) -> Any:
    """Return the same tokenizer as transformers uses it, read from the same tokenizer.json."""
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)
        return PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json", **names)
