"""``tofro doctor``: what will work on this machine.

In: the folder that run folders go to. Out: sections of (name, value) rows and a few sentences of advice. It measures a matrix
product for a fraction of a second, reads names of network interfaces and free disk space, and changes nothing.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from tofro.config.compose import conf_folder
from tofro.config.explain import misspelt_defaults
from tofro.runs.precision import matrix_speed

PACKAGES = (
    "tofro",
    "torch",
    "pytorch-lightning",
    "hydra-core",
    "omegaconf",
    "tokenizers",
    "safetensors",
    "scikit-learn",
    "wandb",
    "tensorboard",
)
WANTED_GB = 2.0  # a study of small models with its checkpoints


@dataclass
class Findings:
    """Rows by section, and advice in sentences."""

    sections: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    advice: list[str] = field(default_factory=list)


def examine(outputs: Path) -> Findings:
    """Look at versions, devices, speed, network interfaces, disk and config."""
    found = Findings()
    found.sections["versions"] = [("python", platform.python_version()), *((name, _version(name)) for name in PACKAGES)]
    speeds = _devices(found)
    _advise_precision(found, speeds)
    _network(found)
    _disk(found, outputs)
    wrong = misspelt_defaults(conf_folder())
    found.sections["config"] = [("conf", str(conf_folder())), ("mistakes", "\n".join(wrong) or "none")]
    return found


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _devices(found: Findings) -> dict[str, dict[str, float]]:
    """List devices and measure them; returns GFLOP/s by device and precision."""
    import torch

    rows = [
        ("system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        ("cpu", f"{_cores()} cores to use, {torch.get_num_threads()} torch threads"),
    ]
    kinds = ["cpu"]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        rows.append((f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"))
        kinds = ["cpu", "cuda"]
    if torch.backends.mps.is_available():
        rows.append(("mps", "Apple GPU; tofro trains on CPU and CUDA"))
    found.sections["devices"] = rows
    speeds = {kind: {precision: matrix_speed(kind, precision) for precision in ("32", "bf16")} for kind in kinds}
    found.sections["speed of a matrix product"] = [
        (f"{kind}, {precision}", f"{speed:,.1f} GFLOP/s") for kind in kinds for precision, speed in speeds[kind].items()
    ]
    gpus = torch.cuda.device_count()
    found.advice.append(f"runs train on {f'{gpus} CUDA GPU(s)' if gpus else 'the CPU'} (trainer.accelerator=auto)")
    if not gpus:
        found.advice.append("encoder=tiny and mini pretrain in minutes to hours here; small and above want a GPU")
    return speeds


def _cores() -> int:
    """Cores this process may use; containers and schedulers often grant fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _advise_precision(found: Findings, speeds: dict[str, dict[str, float]]) -> None:
    kind = "cuda" if "cuda" in speeds else "cpu"
    ratio = speeds[kind]["bf16"] / speeds[kind]["32"]
    advice = "budget.precision=bf16 pays" if ratio > 1.2 else "keep budget.precision=32"
    found.advice.append(f"bf16 is {ratio:.1f} times as fast as fp32 on {kind}: {advice}")


def _network(found: Findings) -> None:
    names = [name for _, name in socket.if_nameindex()]
    found.sections["network interfaces"] = [("names", ", ".join(names) or "none")]
    if not names:
        found.advice.append("no network interface: trainer.devices above 1 will not work")


def _disk(found: Findings, outputs: Path) -> None:
    place = outputs.expanduser().resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 1e9
    found.sections["disk"] = [("outputs_dir", str(outputs)), ("free", f"{free:,.1f} GB")]
    if not os.access(place, os.W_OK):
        found.advice.append(f"{place} can't be written to: give another outputs_dir=...")
    if free < WANTED_GB:
        found.advice.append(f"less than {WANTED_GB:.0f} GB free at {place}: a study may not fit; give another outputs_dir=...")


def show(found: Findings) -> None:
    """Print the findings as a table, then the advice."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for title, rows in found.sections.items():
        table.add_row(Text(title, style="bold"))
        for name, value in rows:
            table.add_row(Text(f"  {name}"), Text(value))
    console = Console()
    console.print(table)
    console.print(Text("what will work here", style="bold"))
    for line in found.advice:
        console.print(Text(f"  {line}"))
