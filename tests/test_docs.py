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
