"""conf/ for the tests of the config room: the real one, with stand-ins for options of rooms that are not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tofro.config import compose

STAND_INS = {
    "corpus/pydoc": "defaults: [settings, _self_]\n_target_: tofro.text.pydoc.read_pydoc_corpus\nname: pydoc\n",
    "corpus/text": "defaults: [settings, _self_]\nname: text\n",
    "task/pydoc_kind": "defaults: [settings, _self_]\n_target_: tofro.text.pydoc.read_pydoc_kind\nname: pydoc_kind\n",
    "task/file": "defaults: [settings, _self_]\nname: file\n",
    "tokenizer/wordpiece": "defaults: [settings, _self_]\n",
    "encoder/tiny": "defaults: [settings, _self_]\nlayers: 2\nwidth: 128\nheads: 2\nintermediate: 512\n",
    "encoder/mini": "defaults: [settings, _self_]\n",
    "objective/mlm_swap": "defaults: [settings, _self_]\n",
    "alignment/infonce": "defaults: [contrastive_settings, _self_]\nloss: {_target_: tofro.objectives.alignment.infonce}\n",
    "alignment/schedule/constant": "_target_: tofro.objectives.schedules.constant\n",
    "alignment/schedule/ramp": "_target_: tofro.objectives.schedules.ramp\nend: 0.5\n",
    "tuning/all": "defaults: [settings, _self_]\n_target_: tofro.encoders.tuning.train_all\n",
    "tuning/head": "defaults: [settings, _self_]\n_target_: tofro.encoders.tuning.train_head\n",
    "tuning/top_k": "defaults: [top_k_settings, _self_]\n_target_: tofro.encoders.tuning.train_top_k\n",
    "schedule/linear": "defaults: [settings, _self_]\n_target_: tofro.modules.optimizers.linear\n",
}


@pytest.fixture(autouse=True)
def conf(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return conf/, completed."""
    real = compose.conf_folder()
    if all((real / f"{name}.yaml").exists() for name in STAND_INS):
        return real
    folder = tmp_path_factory.mktemp("conf") / "conf"
    shutil.copytree(real, folder)
    for name, text in STAND_INS.items():
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(compose, "conf_folder", lambda: folder)
    return folder
