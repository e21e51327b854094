from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from tofro.text import pydoc, pydoc_extract
from tofro.text.pydoc_clean import clean_docstring, is_prose
from tofro.text.pydoc_extract import Entry, Module, extract, read_module
from tofro.text.pydoc_tasks import build_kind, build_match, build_package, leading_text, split_of
from tofro.text.settings import CorpusSettings, TaskSettings

NUMPY = """
    solve(a, b) -> x

    Solve a *linear* system with the ``solve`` routine of `LAPACK <http://x.org>`_.

    Use :func:`scipy.linalg.lstsq` for systems that are :ref:`not square <square>` [1]_.

    .. deprecated:: 1.2
        This sentence is about to go away soon.

    .. note:: The matrix should be well conditioned here.

    Parameters
    ----------
    a : (M, M) array_like
        The coefficient matrix that is inverted.
    b : array_like
        Ordinate values of the system.

    Returns
    -------
    x : ndarray
        Solution to the system of equations.

    Notes
    -----
    The error grows with :math:`x^2` in most cases.
    The factorisation is kept for later calls.  See https://example.org for more on it.

    Examples
    --------
    Solve the following system of two equations.

    >>> solve([[1]], [2])
    array([2.])
    """

GOOGLE = """Open the gate and let people pass.

    This text leads to code::

        people = wait_for_all_of_them()
        and_this_is_code_as_well()

    Args:
        people (list of str): The people who wait outside.
            They stand in a single line.
        gate: Which of the gates is opened.

    Returns:
        True where the gate was closed before.

    Example::

        >>> pass_gate(people)

    ```python
    let everybody pass through the gate
    ```
    It closes again after a minute.
    """


def test_prose_is_kept_and_details_stand_apart():
    prose, details = clean_docstring(NUMPY)
    assert prose == [
        ["Solve a linear system with the solve routine of LAPACK."],
        ["Use lstsq for systems that are not square."],
        ["The matrix should be well conditioned here."],
        ["The factorisation is kept for later calls."],
    ]
    assert details == [
        ["The coefficient matrix that is inverted."],
        ["Ordinate values of the system."],
        ["Solution to the system of equations."],
    ]
    prose, details = clean_docstring(GOOGLE)
    assert prose == [["Open the gate and let people pass."], ["It closes again after a minute."]]
    assert details == [
        ["The people who wait outside.", "They stand in a single line."],
        ["Which of the gates is opened."],
        ["True where the gate was closed before."],
    ]


@pytest.mark.parametrize(
    "raw", ["", "\n", "::", "Args:", "..", "```", ">>> x", "a\n---", ".. note::", "x::\n\n  y", "=====\n====="]
)
def test_scraps_hold_no_prose(raw):
    assert clean_docstring(raw) == ([], [])


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("This is a sentence.", True),
        ("It's the caller's own well-known value.", True),
        ("Too short.", False),
        ("x = f(y) for all the rest", False),
        ("A table | with | many bars", False),
        ("1 2 3 4 5 6", False),
        ("The values are as follows:", False),
        ("word " * 90, False),
    ],
)
def test_prose_reads_as_english(sentence, expected):
    assert is_prose(sentence.strip()) is expected


SOURCE = '''"""This module holds a few things."""
class Box:
    """A box that holds a thing."""
    def open(self, key, *, force=False, **rest):
        """Open the box with a key."""
    @property
    def size(self):
        """How large the box is inside."""
if True:
    async def close(box, /, *boxes):
        """Close the box and all the others."""
add_newdoc("m", "f", """
    A compiled function is described in this place here.
    """)
'''


def test_a_module_is_read_without_running_it(tmp_path):
    path = tmp_path / "m.py"
    path.write_text(SOURCE + "raise SystemExit\n")
    module = read_module("p", "p.m", path)
    assert [(entry.kind, entry.name, entry.signature) for entry in module.entries] == [
        ("module", "p.m", ""),
        ("class", "Box", ""),
        ("method", "open", "open(key, force, rest)"),
        ("property", "size", "size()"),
        ("function", "close", "close(box, boxes)"),
        ("added", "", ""),
    ]
    assert leading_text(module.entries[-1]) == "A compiled function is described in this place here."
    path.write_text('"""This is a template."""\n{{ code }} = (\n')
    assert read_module("p", "p.m", path) is None


@pytest.fixture
def small_world(tmp_path, monkeypatch):
    """Three packages of forty modules each, instead of what is installed."""
    files = []
    for package in ("red", "green", "blue"):
        for number in range(40):
            path = tmp_path / f"{package}{number}.py"
            things = "\n".join(
                f'class C{number}{n}:\n    """The {package} class of {n} in {number} words."""\n'
                f'    def m{number}_{n}(self, arg):\n        """A method of {package} makes {n} of {number} words."""\n'
                f'def f{number}_{n}(arg):\n    """A function of {package} makes {n} of {number} words."""\n'
                for n in ("one", "two", "three")
            )
            path.write_text(
                f'"""The {package} module of number {number} it is.\n\nEverybody repeats this very sentence."""\n{things}'
            )
            files.append((package, f"{package}.m{number}", path))
    monkeypatch.setattr(pydoc_extract, "_find_files", lambda: iter(files))
    monkeypatch.setattr(pydoc_extract, "_topics", list)
    monkeypatch.setattr(pydoc, "_built", {})


@pytest.mark.usefixtures("small_world")
def test_extraction_is_the_same_by_any_number_of_workers_and_from_the_cache(tmp_path):
    told = []
    alone = extract(tmp_path, lambda done, total: told.append((done, total)), workers=1)
    assert told[-1] == (120, 120)
    assert len(alone) == 120
    assert extract(None, workers=2) == alone
    (cache,) = tmp_path.glob("pydoc-*.jsonl")
    assert extract(tmp_path, lambda *_: pytest.fail("the cache was not used")) == alone
    cache.write_text("\n".join(cache.read_text().splitlines()[:50]))  # a torn file is made anew
    assert extract(tmp_path, workers=1) == alone
    assert extract(tmp_path) == alone


@pytest.mark.usefixtures("small_world")
def test_the_corpus_holds_a_sentence_once_and_splits_by_module():
    corpus = pydoc.read_pydoc_corpus(CorpusSettings(name="pydoc", validation_share=0.2))
    train, validation = (list(corpus.documents(split)) for split in ("train", "validation"))
    assert all(len(document) > 1 for document in train + validation)
    assert len(validation) > 5
    counts = Counter(sentence for document in train + validation for sentence in document)
    assert set(counts.values()) == {1}
    assert "Everybody repeats this very sentence." in counts
    with pytest.raises(ValueError, match=r"corpus\.path has no use"):
        pydoc.read_pydoc_corpus(CorpusSettings(name="pydoc", path="x.txt"))


@pytest.mark.usefixtures("small_world")
@pytest.mark.parametrize("read", [pydoc.read_pydoc_kind, pydoc.read_pydoc_package, pydoc.read_pydoc_match])
def test_tasks_are_whole_and_share_no_text_between_splits(read):
    task = read(TaskSettings(name="t"))
    texts = [{(example.text_b or example.text_a) for example in task.splits[split]} for split in ("train", "validation", "test")]
    assert all(texts)
    assert sum(map(len, texts)) == len(set.union(*texts))
    assert {example.label for rows in task.splits.values() for example in rows} == set(task.labels)
    assert read(TaskSettings(name="t")) == task
    assert len(read(TaskSettings(name="t", train_rows=20)).splits["train"]) == 20
    few = read(TaskSettings(name="t", validation_rows=3))
    assert len(few.splits["validation"]) == 3
    assert few.fingerprint != task.fingerprint
    with pytest.raises(ValueError, match=r"task\.path has no use"):
        read(TaskSettings(name="t", path="x.csv"))


def some_modules():
    def entry(package, number, n):
        text = f"The thing {number} {n} of {package} works with {package}.core and a {package}tool string."
        return Entry("function", f"f{number}{n}", f"f{number}{n}(x)", [[text]], [])

    return [
        Module(package, f"{package}.string.{package}tool.core{number}", [entry(package, number, n) for n in range(6)])
        for package in ("red", "green", "blue")
        for number in range(40)
    ]


def test_package_names_are_masked():
    for rows in build_package(some_modules()).values():
        for example in rows:
            assert not {"red", "green", "blue"} & set(example.text_a.replace(".", " ").split())
            assert example.text_a.endswith("of _ works with _ and a _ string.")


def test_package_texts_that_masking_makes_equal_are_dropped():
    modules = [
        Module(name, f"{name}.m", [Entry("class", "C", "", [[f"A class that {name} needs."]], [])]) for name in ("red", "blue")
    ]
    assert build_package(modules) == {"train": [], "validation": [], "test": []}


def test_match_balances_exactly_and_mismatches_within_the_package():
    for rows in build_match(some_modules()).values():
        counts = Counter(example.label for example in rows)
        assert counts["match"] == counts["mismatch"] > 0
        for example in rows:
            _, number, n = example.text_b.split()[1:4]
            belongs = example.text_a == f"f{number}{n}(x)"
            assert belongs == (example.label == "match")


def test_two_rows_are_too_few_for_a_mismatch():
    entries = [Entry("function", name, f"{name}(x)", [[f"Makes one {name} of it."]], []) for name in ("cup", "jug", "pan")]
    assert not any(build_match([Module("p", "p.m", entries)]).values())


def test_kinds_are_even_and_modules_keep_to_one_split():
    modules = [
        Module("p", f"p.m{number}", [Entry(kind, "x", "", [[f"Of {kind} {number} {n} it is."]], []) for n in range(40)])
        for number in range(120)
        for kind in (["class", "function", "method", "method"][number % 4],)
    ]
    splits = build_kind(modules)
    for split, rows in splits.items():
        counts = Counter(example.label for example in rows)
        assert max(counts.values()) <= 0.4 * len(rows)
        assert all(split_of(f"p.m{example.text_a.split()[2]}") == split for example in rows)


def test_what_is_installed_is_named_without_importing_it():
    code = (
        "import sys; from tofro.text import pydoc, pydoc_extract as x;"
        "assert pydoc.fingerprint_pydoc() == pydoc.fingerprint_pydoc(); assert not x.missing_packages();"
        "n = sum(1 for _ in x._find_files()); assert n > 1000, n;"
        "assert not {'torch', 'numpy', 'sympy', 'hydra'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
