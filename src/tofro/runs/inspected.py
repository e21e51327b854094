"""The tables of ``tofro inspect``: what was counted, and what of it deserves a second look.

In: the dictionary that inspecting.py makes. Out: tables in the terminal, and sentences. Names from the data are shown as text,
not as mark-up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

SHOWN_LABELS = 20
SHOWN_SCRIPTS = 6
WIDTH = 130  # of a table that goes into a file
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def show(found: Mapping[str, Any]) -> None:
    """Print tables and findings."""
    console = Console()
    console = console if console.is_terminal else Console(width=WIDTH)
    tables, findings_of = KINDS[found["holds"]]
    for table in tables(found):
        console.print(table, "")
    findings = list(findings_of(found))
    console.print(Text("findings", style="bold"))
    for line in findings or ["nothing to note"]:
        console.print(_text(f"  {line}"))


def _task_tables(found: Mapping[str, Any]) -> Iterator[Table]:
    splits = found["splits"]
    head = f"{found['data']}: {found['kind'] or 'a table without labels'}"
    read = ", ".join(f"{key} = {column}" for key, column in found["read"].items() if column is not None)
    yield _table(
        f"{head}\ncolumns: {', '.join(found['columns']) or 'built in'}; read: {read}",
        ("split", "rows", "bad rows", "empty texts", "no label", "repeats", "labels", "encoding"),
        [
            (
                split,
                each["rows"],
                each["bad_rows"]["count"] + each["rows_without_text"]["count"],
                each["empty_texts"]["count"],
                "withheld" if each["labels_withheld"] else each["rows_without_label"],
                each["repeated_texts"],
                len(each["labels"]) if "labels" in each else "scores",
                each.get("encoding", ""),
            )
            for split, each in splits.items()
        ],
    )
    yield _table(
        "lengths",
        ("split", "counted in", "least", "median", "mean", "95%", "greatest"),
        [
            (split, unit, *(f"{value:,.0f}" for value in each[unit].values()))
            for split, each in splits.items()
            for unit in ("characters", "words", "tokens")
            if each.get(unit)
        ],
    )
    if any(each.get("labels") for each in splits.values()):
        yield _labels(splits)
    scored = [
        (split, *(f"{value:.3f}" for value in each["scores"].values())) for split, each in splits.items() if each.get("scores")
    ]
    if scored:
        yield _table("scores", ("split", "least", "median", "mean", "95%", "greatest"), scored)


def _labels(splits: Mapping[str, Any]) -> Table:
    counts = {split: each.get("labels", {}) for split, each in splits.items()}
    names = list(dict.fromkeys(name for labels in counts.values() for name in labels))
    rows: list[Sequence[Any]] = []
    for name in names[:SHOWN_LABELS]:
        cells = []
        for labels in counts.values():
            count = labels.get(name, 0)
            cells.append(f"{count:,} ({count / sum(labels.values()):.1%})" if count else "0")
        rows.append((name, *cells))
    if len(names) > SHOWN_LABELS:
        rows.append((f"and {len(names) - SHOWN_LABELS} more", *("" for _ in counts)))
    return _table("labels", ("label", *counts), rows)


def _task_findings(found: Mapping[str, Any]) -> Iterator[str]:
    for split, each in found["splits"].items():
        bad = each["bad_rows"]
        if bad["count"]:
            yield f"{split}: {bad['count']:,} rows can't be read: {'; '.join(bad['reasons'])}"
        for key, said in (("rows_without_text", "have no text"), ("empty_texts", "have an empty text")):
            if each[key]["count"]:
                yield f"{split}: {each[key]['count']:,} rows {said}, first at lines {_lines(each[key]['first_lines'])}"
        if each["rows_without_label"] and not each["labels_withheld"] and each.get("labels"):
            yield f"{split}: {each['rows_without_label']:,} rows have no label"
        if each["repeated_texts"]:
            torn = each["texts_with_several_labels"]
            odd = f"; {torn:,} texts have more than one label" if torn else ""
            yield f"{split}: {each['repeated_texts']:,} of {each['rows']:,} rows repeat the text of an earlier one{odd}"
    for split, leak in found["leaks"].items():
        if leak["normalised"]:
            rows = found["splits"][split]["rows"]
            yield (
                f"{split}: {leak['exact']:,} of {rows:,} rows also occur in train, {leak['normalised']:,} where case, spaces and "
                f"punctuation don't count; first at lines {_lines(leak['first_lines'])}"
            )
    for split, labels in found["labels_unseen_in_train"].items():
        shown = ", ".join(f"{label!r} ({count:,})" for label, count in list(labels.items())[:5])
        yield f"{split}: labels that never occur in train, which a run refuses: {shown}{', ...' if len(labels) > 5 else ''}"
    yield from found.get("notes", ())


def _corpus_tables(found: Mapping[str, Any]) -> Iterator[Table]:
    splits = found["splits"]
    tokens = ("tokens",) if any("tokens" in each for each in splits.values()) else ()
    columns = ("documents", "lines", "characters", "different_characters", *tokens)
    yield _table(
        f"{found['data']}: a corpus",
        ("split", "files", *(column.replace("_", " ") for column in columns), "longest line", "encoding"),
        [
            (
                split,
                len(each["files"]),
                *(each[column] for column in columns),
                f"{each['longest_line']['characters']:,} at {each['longest_line']['at'] or '-'}",
                each["encoding"],
            )
            for split, each in splits.items()
        ],
    )
    yield _table(
        "scripts and language",
        ("split", "scripts, by share of letters", "language"),
        [
            (
                split,
                ", ".join(f"{script.title()} {share:.1%}" for script, share in list(each["scripts"].items())[:SHOWN_SCRIPTS]),
                each["language"],
            )
            for split, each in splits.items()
        ],
    )


def _corpus_findings(found: Mapping[str, Any]) -> Iterator[str]:
    for split, each in found["splits"].items():
        if each["repeated_documents"]:
            yield f"{split}: {each['repeated_documents']:,} of {each['documents']:,} documents repeat an earlier one"
        if each["documents"] == each["lines"] and each["documents"] > 1:
            yield f"{split}: every document is a single line; sentence pairs need documents of two sentences or more"
        if each["documents"] == 1 and each["lines"] > 1:
            yield f"{split}: no blank line, so everything is one document"
        if each["nul_characters_at"]:
            yield f"{split}: NUL characters at {', '.join(each['nul_characters_at'])}, which a run refuses"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    table = Table(title=_text(title), title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for name in head:
        table.add_column(_text(name), justify="right" if rows and _is_number(rows[0][head.index(name)]) else "left")
    for row in rows:
        table.add_row(*(_text(f"{value:,}" if isinstance(value, int) else str(value)) for value in row))
    return table


def _is_number(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and value[:1].isdigit())


def _text(value: str) -> Text:
    """Return data as text that the terminal shows and does not obey."""
    return Text("\n".join(_CONTROLS.sub(" ", line) for line in value.split("\n")))


def _lines(lines: Sequence[int]) -> str:
    return ", ".join(map(str, lines))


def _prompt_tables(found: Mapping[str, Any]) -> Iterator[Table]:
    for number, each in enumerate(found["templates"]):
        for mask, fills in enumerate(each["fills"]):
            yield _table(
                f"template {number}, mask {mask}, over {found['texts']} texts: {each['template']}",
                ("the model writes", "mean probability"),
                [(token, f"{probability:.4f}") for token, probability in fills.items()],
            )
    words = [
        (word["label"], word["word"], "" if word["occurrences"] is None else f"{word['occurrences']:,}")
        for word in found["words"]
    ]
    yield _table("label words", ("label", "word", "occurrences in pretraining"), words)


def _prompt_findings(found: Mapping[str, Any]) -> Iterator[str]:
    for word in found["words"]:
        if word["occurrences"] is None:
            yield f"how often pretraining met the label words is not known: {found['corpus']}"
            return
        if word["occurrences"] < found["rare"]:
            yield f"{word['word']} ({word['label']}) stands {word['occurrences']:,} times in {found['corpus']}: rare"


KINDS = {
    "corpus": (_corpus_tables, _corpus_findings),
    "task": (_task_tables, _task_findings),
    "prompt": (_prompt_tables, _prompt_findings),
}
