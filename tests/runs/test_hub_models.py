"""Models by name, from a stand-in for the hub on this machine: what is fetched, what is kept, what is said without a network."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest

from tests.conftest import small_run
from tests.runs.conftest import Chain, carry_out
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
    """A hub with the model of the small chain as org/tiny, code and a pickle beside it, and org/pickle with nothing else."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs the extra hub")
    root = tmp_path / "hub"
    copied = root / "org" / "tiny"
    pre = chain.runs["pretrain"].folder / "models" / "pre"
    for path in pre.rglob("*"):
        if path.is_file():
            (copied / path.relative_to(pre)).parent.mkdir(parents=True, exist_ok=True)
            (copied / path.relative_to(pre)).write_bytes(path.read_bytes())
    (root / "org" / "pickle").mkdir()
    for folder in (copied, root / "org" / "pickle"):
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
