"""Ranks on machines of their own: two network namespaces, each with its own address, joined by a virtual cable."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import small_run
from tests.ranks import tofro
from tests.runs.test_launch import SHORT, finish, rows_of, the_run

pytestmark = pytest.mark.slow


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def machines() -> Iterator[dict[str, str]]:
    """Return {namespace: address} of two namespaces that reach one another over 10.x and nothing else; skip where not allowed."""
    if shutil.which("ip") is None:
        pytest.skip("iproute2's ip is not installed, so there are no network namespaces to be two machines")
    names = {f"tofro{number}-{os.getpid()}": f"10.77.0.{number}" for number in (1, 2)}
    first, second = names
    made = []
    try:
        try:
            for name in names:
                ip("netns", "add", name)
                made.append(name)
            ip("-n", first, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", second)
            for name, address in names.items():
                ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
                for link in ("cable", "lo"):
                    ip("-n", name, "link", "set", link, "up")
        except subprocess.CalledProcessError as refused:
            pytest.skip(f"network namespaces are not allowed here: {refused.stderr.strip()}")
        yield names
    finally:
        for name in made:
            ip("netns", "del", name)


def test_two_machines_train_as_one(world: Path, tmp_path: Path, machines: dict[str, str]) -> None:
    assert finish(tofro("run", *small_run(world, tmp_path / "one"), *SHORT))[0] == 0
    master = next(iter(machines.values()))
    nodes = []
    for number, name in enumerate(machines):
        words = ["-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={number}", "--nproc-per-node=1"]
        words += [f"--master-addr={master}", "--master-port=29577", "-m", "tofro", "run", *small_run(world, tmp_path / "two")]
        nodes.append(
            subprocess.Popen(
                ["ip", "netns", "exec", name, sys.executable, *words, *SHORT, "trainer.num_nodes=2"],
                env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "cable"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    done = [finish(node) for node in nodes]
    assert [code for code, _, _ in done] == [0, 0], done
    assert ["finished: " in out for _, out, _ in done] == [True, False]
    one, two = the_run(tmp_path / "one"), the_run(tmp_path / "two")
    for found, row in zip(rows_of(two), rows_of(one), strict=True):
        assert found == pytest.approx(row, abs=1e-5)
    assert json.loads((two / "result.json").read_text())["cost"]["tokens"] > 0
