"""Models by name, from a stand-in for the hub on this machine: what is fetched, what is kept, what is said without a network."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tofro
from tests.conftest import small_run
from tests.runs.conftest import Chain, carry_out
from tofro.cli import main
from tofro.cli_parts import DONE, MISTAKE
from tofro.config.compose import compose
from tofro.runs import hub
from tofro.runs.run import identify

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def blob(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


class Hub(ThreadingHTTPServer):
    """Serves the folders under ``root`` as models of those names; ``asked`` lists the files that were fetched."""

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.root = root
        self.asked: list[str] = []


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        parts = urlparse(self.path).path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            parts = parts[2:]
            place = next(index for index, part in enumerate(parts) if part in ("revision", "tree"))
            folder = self.server.root / "/".join(parts[:place])
            if not folder.is_dir() or parts[place + 1] not in ("main", COMMIT):
                return self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            tree = [
                {"type": "file", "path": path.relative_to(folder).as_posix(), "size": path.stat().st_size, "oid": blob(path)}
                for path in files
            ]
            what: Any = tree if parts[place] == "tree" else {"id": "/".join(parts[:place]), "sha": COMMIT, "siblings": []}
            return self.send(200, json.dumps(what).encode(), {}, body)
        name, _, rest = "/".join(parts).partition("/resolve/")
        path = self.server.root / name / rest.partition("/")[2]
        if body:
            self.server.asked.append(path.relative_to(self.server.root / name).as_posix())
        return self.send(200, path.read_bytes(), {"X-Repo-Commit": COMMIT, "ETag": f'"{blob(path)}"'}, body)

    def send(self, code: int, content: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(content)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def served(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with the models of the small chain as org/tiny and org/tuned, code and a pickle beside them, and org/pickle."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs the extra hub")
    root = tmp_path / "hub"
    shutil.copytree(chain.runs["pretrain"].folder / "models" / "pre", root / "org" / "tiny")
    shutil.copytree(chain.runs["full"].folder / "models" / "ft", root / "org" / "tuned")
    (root / "org" / "pickle").mkdir()
    for folder in (root / "org").iterdir():
        (folder / "pytorch_model.bin").write_bytes(b"\x80")
        (folder / "modeling_evil.py").write_text("raise SystemExit")
    (root / "org" / "pickle" / "config.json").write_text("{}")
    server = Hub(root)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    hub._fetch.cache_clear()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
    hub._fetch.cache_clear()


def test_a_name_is_fetched_without_code_and_counts_as_what_it_holds(served: Hub, world: Path, tmp_path: Path) -> None:
    base = [*small_run(world, tmp_path / "outputs"), "method=full", "method.measure=false", "budget.steps=1"]
    by_name = carry_out([*base, "init_from=org/tiny"])
    assert {"config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"} <= set(served.asked)
    assert not [name for name in served.asked if name.endswith((".py", ".bin"))]
    folder = hub.locate("org/tiny")
    assert identify(compose([*base, f"init_from={folder}"])).id == by_name.data["id"]
    assert carry_out([*base, f"init_from={folder}"]).reused


def test_what_was_fetched_is_there_offline_and_nothing_else(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    folder, fetched = hub.locate("org/tiny"), len(served.asked)
    hub._fetch.cache_clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert hub.locate("org/tiny") == folder
    assert hub.locate(f"org/tiny@{COMMIT}") == folder
    assert len(served.asked) == fetched
    with pytest.raises(
        ValueError, match=r"init_from=org/other: no such folder here.*Without a network.*--local-dir FOLDER.*init_from=FOLDER"
    ):
        hub.locate("org/other")


def test_names_that_are_not_there_say_so(served: Hub) -> None:
    for name in ("org/other", "tiny", "org/tiny@no-such-tag"):
        with pytest.raises(ValueError, match=f"init_from_ft={name}: no such folder here, and the hub gave no model"):
            hub.locate(name, "init_from_ft")


def test_a_model_with_nothing_but_a_pickle_is_refused_with_the_way_to_convert(served: Hub) -> None:
    with pytest.raises(ValueError, match=r"org/pickle: the hub's model has no model\.safetensors.*save_pretrained"):
        hub.locate("org/pickle")
    assert served.asked == ["config.json"]


def test_paths_never_ask_the_hub(served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "tiny").mkdir(parents=True)
    for place in ("org/tiny", "/no/such/folder", "./tiny", "../tiny", "~/tiny", "a/b/c", "-x"):
        assert hub.locate(place) == Path(place).expanduser()
    assert not served.asked


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    hub._fetch.cache_clear()
    with pytest.raises(ValueError, match=r"init_from=org/tiny: .*pip install 'tofro\[hub\]'"):
        hub.locate("org/tiny")


def test_models_by_name_are_opened_asked_and_count_tokens(
    served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As those of the folders that the names stand for; what was fetched once answers offline."""
    import huggingface_hub.constants

    texts = ["The bright river finds the bridge.", "A cold engine."]
    here = {name: str(served.root / "org" / name) for name in ("tiny", "tuned")}
    (tmp_path / "rows.csv").write_text("text,label\nThe bright river.,good\nA cold engine.,bad\n")
    for offline in (False, True):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
        hub._fetch.cache_clear()
        for name in here:
            np.testing.assert_array_equal(tofro.load(f"org/{name}").encode(texts), tofro.load(here[name]).encode(texts))
        said = []
        for place in ("org/tuned", here["tuned"]):
            assert main(["predict", place, "--json", *(word for text in texts for word in ("--text", text))]) == DONE
            assert main(["inspect", str(tmp_path / "rows.csv"), "--model", place, "--json"]) == DONE
            said.append(capsys.readouterr().out)
        assert said[0] == said[1]
        assert '"tokens"' in said[0]
    assert not [name for name in served.asked if name.endswith((".py", ".bin"))]


def test_mistakes_name_what_was_given(served: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.csv").write_text("text,label\na,b\n")
    for words, key in (
        (["predict", "org/other", "--text", "x"], "MODEL_DIR"),
        (["inspect", str(tmp_path / "rows.csv"), "--model", "org/other"], "--model"),
    ):
        assert main(words) == MISTAKE
        said = capsys.readouterr().err
        assert f"{key}=org/other: no such folder here, and the hub gave no model of that name" in said
        assert f"give {key}=FOLDER" in said
    with pytest.raises(ValueError, match=r"folder=org/pickle: the hub's model has no model\.safetensors"):
        tofro.load("org/pickle")
    with pytest.raises(ValueError, match="org/tiny: no such folder"):
        tofro.load(Path("org/tiny"))  # a path is no name
    assert main(["export", "org/tiny", str(tmp_path / "out")]) == MISTAKE  # what is exported is a run of one's own
    assert "org/tiny: no such folder; give a finished run's folder" in capsys.readouterr().err


def test_weights_in_several_files_are_fetched_whole(served: Hub) -> None:
    folder = served.root / "org" / "tuned"
    whole = tofro.load(str(folder)).predict(["A cold engine."])
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: f"model-0000{1 + place % 2}-of-00002.safetensors" for place, name in enumerate(sorted(tensors))}
    for file in set(places.values()):
        save_file({name: tensors[name] for name in places if places[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert tofro.load("org/tuned").predict(["A cold engine."]) == whole
    assert {"model.safetensors.index.json", *places.values()} <= set(served.asked)
