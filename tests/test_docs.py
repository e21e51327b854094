"""What the documentation points at is there: tests, files of the package, and keys of the config."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tofro.config.compose import compose, conf_folder

ROOT = Path(__file__).parents[1]
MISSED = object()
PAGES = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("*.md"), *ROOT.glob("experiments/*/README.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_are_there(page: Path) -> None:
    named = re.findall(r"`((?:tests|conf|benchmarks|src|docs)/[\w./-]+\.\w+)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_tests_that_interop_names_exist() -> None:
    """A cell of its matrices names the test behind it, without the word test; shorter code spans are keys and files."""
    page = (ROOT / "docs/interop.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:test_\w+\.py: |tests/[\w/.]+: )?(?:test_)?([a-z0-9]+(?:_[a-z0-9]+){3,})`", page))
    defined = {
        name
        for path in ROOT.glob("tests/**/test_*.py")
        for name in re.findall(r"def test_(\w+)", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 25
    assert {name.removeprefix("test_") for name in named} <= defined


def test_keys_of_the_table_of_knobs_exist() -> None:
    """Of section 14 of docs/algorithms.md, whose rows say which key moves what."""
    section = (ROOT / "docs/algorithms.md").read_text(encoding="utf-8").partition("\n## 14.")[2].partition("\n## ")[0]
    cells = [line.split("|")[2] for line in section.splitlines() if line.startswith("| ")][1:]
    words = [word for cell in cells for word in re.findall(r"`([^`]+)`", cell)]
    group, chosen = "", []
    for word in words:
        if "=" in word:
            group = word.partition("=")[0]
            chosen.append(word)
        elif word.startswith("."):
            chosen.append(f"alignment{word}")
        elif "." in word or "/" in word or word in ("corpus", "prompt", "init_from"):
            chosen.append(word)
        elif word != "stream":
            chosen.append(f"{group}={word}")
    assert len(chosen) > 50
    config = compose(["method=two_way", "corpus=pydoc", "task=pydoc_kind"])
    for word in chosen:
        group, chooses, option = word.partition("=")
        if chooses:
            assert (conf_folder() / group / f"{option}.yaml").is_file(), word
        else:
            assert OmegaConf.select(config, word.replace("/", "."), default=MISSED) is not MISSED, word


def numbered(page: str) -> dict[str, str]:
    """The numbered sections of a page of docs/ by their numbers."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").partition("\n## References")[0]
    parts = re.split(r"^## (\d+)\. .*$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def substance(section: str) -> dict[str, set[str]]:
    """What no translation changes: code, formulas without their words, numbers, how many rows, items and headings there are."""
    blocks = re.findall(r"^```.*?^```$", section, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```$", "", section, flags=re.MULTILINE | re.DOTALL)
    code = {" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)}
    prose = re.sub(r"`[^`]+`", "", prose)
    formulas = {
        re.sub(r"\\text\{[^}]*\}|\\quad|\s", "", "".join(pair))
        for pair in re.findall(r"\$\$(.+?)\$\$|\$(.+?)\$", prose, re.DOTALL)
    }
    prose = re.sub(r"\$\$.+?\$\$|\$.+?\$|\]\([^)]*\)", "", prose, flags=re.DOTALL)
    lines = section.splitlines()
    shape = {
        "lines of code": sum(block.count("\n") for block in blocks),
        "headings": sum(line.startswith("### ") for line in lines),
        "rows": sum(line.startswith("|") for line in lines),
        "items": sum(line.startswith("- ") for line in lines),
    }
    return {
        "code": code,
        "formulas": formulas,
        "numbers": set(re.findall(r"\d(?:[\d,]*\d)?(?:\.\d+)?%?", prose)),
        "shape": {f"{count} {what}" for what, count in shape.items()},
    }


def test_the_chinese_page_of_algorithms_says_what_the_english_one_says() -> None:
    """Section by section: a key, a formula, a number or a row that only one of the two has is out of step."""
    english, chinese = numbered("algorithms.md"), numbered("algorithms.zh-CN.md")
    assert list(english) == list(chinese)
    assert len(english) == 14
    for number, section in english.items():
        ours, theirs = substance(section), substance(chinese[number])
        for what, found in ours.items():
            assert (number, what, found - theirs[what], theirs[what] - found) == (number, what, set(), set())
