"""``tofro predict``: what a model's task head says about texts, written as they are read.

In: a :class:`~tofro.runs.loaded.Loaded`, inputs one at a time. Out: lines in the order of the inputs: a table for the eye, or
JSON lines. A few thousand texts are in memory at a time, however long the file is.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO

from rich.cells import cell_len, set_cell_size

from tofro.progress import Progress
from tofro.runs.loaded import Loaded, Prediction
from tofro.text.inputs import Input
from tofro.text.tags import entities, spell_entities

CHUNK = 4096  # texts in memory
CHUNK_CHARACTERS = 1 << 22  # or so many characters
DIGITS = 6  # of a probability in JSON
NARROWEST = 20  # columns of the terminal that are left to the text
_CONTROLS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")  # would break the table, or speak to the terminal


def predict(loaded: Loaded, inputs: Iterable[Input], out: TextIO, as_json: bool, report: Progress) -> int:
    """Write a line for each input and return how many there were; ``report`` is told of texts, their total unknown."""
    table, done = None if as_json else _Table(loaded, out), 0
    for chunk in chunks(inputs):
        for given, found in zip(chunk, loaded.answer(chunk), strict=True):
            out.write((json_line(given, found) if table is None else table.line(given, found)) + "\n")
        out.flush()
        done += len(chunk)
        report(done, None)
    return done


def chunks(inputs: Iterable[Input]) -> Iterator[list[Input]]:
    """Yield inputs in lists that memory holds."""
    chunk: list[Input] = []
    size = 0
    for each in inputs:
        chunk.append(each)
        size += len(each.text_a) + len(each.text_b or "")
        if len(chunk) >= CHUNK or size >= CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def json_line(given: Input, found: Prediction) -> str:
    """Return an input and its prediction as a JSON object."""
    line: dict[str, Any] = {"line": given.line} if given.line else {}
    if found.words:
        line |= {"tokens": found.words, "tags": found.label, "probabilities": [_rounded(each) for each in _many(found)]}
        return json.dumps(line, ensure_ascii=False)
    line |= {"text": given.text_a} if given.text_b is None else {"text_a": given.text_a, "text_b": given.text_b}
    if not found.probabilities:
        assert isinstance(found.label, float)
        return json.dumps(line | {"score": _rounded(found.label)}, ensure_ascii=False)
    line |= {"label": found.label, "probability": _rounded(found.probabilities[str(found.label)])}
    line |= {"probabilities": {label: _rounded(value) for label, value in found.probabilities.items()}}
    return json.dumps(line, ensure_ascii=False)


class _Table:
    """Lines of a table, aligned; on a terminal a text that is too long for its line is cut."""

    def __init__(self, loaded: Loaded, out: TextIO) -> None:
        self.kind = loaded.require_task()
        self.entities = spell_entities(loaded.labels or ())
        terminal = out.isatty()
        self.width = shutil.get_terminal_size().columns if terminal else None
        longest = max((cell_len(shown(label)) for label in loaded.labels or ()), default=0)
        self.label = max(longest, len("label"))
        heads = {"tags": "text", "regression": f"{'score':>9}  text"}
        head = heads.get(self.kind, f"{'label':<{self.label}}  {'probability':>11}  text")
        out.write(f"\x1b[1m{head}\x1b[0m\n" if terminal else f"{head}\n")

    def line(self, given: Input, found: Prediction) -> str:
        """Return the line of one input."""
        if self.kind == "tags":
            return self._cut("", tagged_text(found, self.entities))
        text = given.text_a if given.text_b is None else f"{given.text_a}  |  {given.text_b}"
        if self.kind == "regression":
            return self._cut(f"{found.label:>9.4f}  ", text)
        return self._cut(f"{set_cell_size(shown(str(found.label)), self.label)}  {found.probability:>11.4f}  ", text)

    def _cut(self, before: str, text: str) -> str:
        room = None if self.width is None else max(self.width - cell_len(before), NARROWEST)
        clean = shown(text if room is None else text[: 4 * room])
        if room is None or cell_len(clean) <= room:
            return before + clean
        return f"{before}{set_cell_size(clean, room - 1)}…"


def tagged_text(found: Prediction, as_entities: bool) -> str:
    """Return words with what they are tagged as: ``[New York]place`` where tags mark entities, else ``York/NOUN``."""
    assert isinstance(found.label, tuple)
    if not as_entities:
        return " ".join(f"{word}/{tag}" for word, tag in zip(found.words, found.label, strict=True))
    marked = list(found.words)
    for kind, first, last in entities(found.label):
        marked[first] = f"[{marked[first]}"
        marked[last - 1] = f"{marked[last - 1]}]{kind}"
    return " ".join(marked)


def shown(text: str) -> str:
    """Return a text as one line that a terminal shows and does not obey."""
    return _CONTROLS.sub(" ", text).strip()


def _many(found: Prediction) -> Sequence[float | None]:
    assert isinstance(found.probability, tuple)
    return found.probability


def _rounded(value: float | None) -> float | None:
    return None if value is None or value != value else round(value, DIGITS)  # NaN is no JSON
