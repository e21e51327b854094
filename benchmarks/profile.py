"""``python -m benchmarks.profile SIZE``: where the time of a pretraining step goes, or with ``--task`` of a fine-tuning step.

The same module, loader and optimizer as a run, in a plain loop under torch.profiler. A forward operation belongs to the module it
was called in; a backward operation belongs where its forward operation was, found by autograd's sequence number. Times are those
of the CPU, or of the GPU's kernels where training is there; the profiler's own cost is in them.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks import ours
from benchmarks.material import Options
from benchmarks.timing import settled
from tofro.modules.optimizers import adamw

MARK = "room: "
REST = "between operations"  # Python, the profiler, and what no range holds
PARTS = {"embeddings": "embeddings", "attention": "attention", "feed_forward": "feed-forward"}  # ends of module names
NODE = "autograd::engine::evaluate_function: "
OPERATIONS = 15


def main() -> None:
    """Read the command line, profile, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__.splitlines()[0])
    parser.add_argument("size", help="an encoder of conf/encoder: tiny, mini, small, medium, base")
    parser.add_argument("--corpus", help="text file or folder; without it the built-in corpus")
    parser.add_argument("--task", help="file or folder: profile full fine-tuning on it instead")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--precision", choices=("32", "bf16"), default="32")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, help="torch threads; without it torch's choice")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    options = Options(arguments.corpus, arguments.task)
    method = ["method=pretrain"] if arguments.task is None else ["method=full", *options.task_overrides]
    context = options.context(
        *method,
        f"encoder={arguments.size}",
        f"method.dropout={arguments.dropout}",
        f"budget.batch={arguments.batch}",
        f"budget.precision={arguments.precision}",
        f"objective.length={arguments.length}",
    )
    job = ours.pretraining(context) if arguments.task is None else ours.fine_tuning(context)
    fitted = ours.train(job, 1, arguments.steps).seconds / arguments.steps
    seconds, events = watch(job, arguments.precision, arguments.steps)
    show(events, arguments.steps, seconds)
    print(
        f"{1000 * seconds:.1f} ms a step in this loop under the profiler, {1000 * fitted:.1f} ms in the run's own fit without it"
    )


def watch(job: ours.Job, precision: str, steps: int) -> tuple[float, list[Any]]:
    """Train for ``steps`` steps under the profiler; return the seconds of a step and the profiler's events."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = job.module.to(device).train()
    optimizer = adamw(module.trained, job.context.settings("optimizer"))
    batches = iter(job.data.train_dataloader())
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")

    def step() -> None:
        with record_function(MARK + "loader"):
            batch = next(batches).to(device)
        with record_function(MARK + "head and loss"), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = module.training_step(batch, 0)
        loss.backward()
        with record_function(MARK + "clipping"):
            module.configure_gradient_clipping(optimizer)
        with record_function(MARK + "optimizer"):
            optimizer.step()
            optimizer.zero_grad()
        module.pop_row()

    with marked(module):
        step()
        with profile(activities=activities) as profiler:
            started = settled()
            for _ in range(steps):
                step()
            seconds = (settled() - started) / steps
    return seconds, list(profiler.events())


@contextmanager
def marked(module: torch.nn.Module) -> Iterator[None]:
    """Put a profiler range round each call of the modules named in :data:`PARTS`."""
    handles, open_ranges = [], []

    def enter(room: str) -> None:
        open_ranges.append(record_function(MARK + room))
        open_ranges[-1].__enter__()

    for name, part in module.named_modules():
        room = PARTS.get(name.rpartition(".")[2])
        if room is not None:
            handles.append(part.register_forward_pre_hook(lambda *_, room=room: enter(room)))
            handles.append(part.register_forward_hook(lambda *_: open_ranges.pop().__exit__(None, None, None)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def parents(event: Any) -> Iterator[Any]:
    """Yield ``event`` and all that it ran in."""
    while event is not None:
        yield event
        event = event.cpu_parent


def rooms(events: Iterable[Any]) -> dict[int, str]:
    """Return the room of each event by its id."""
    events = sorted(events, key=lambda event: event.time_range.start)
    found: dict[int, str] = {}
    by_sequence: dict[int, str] = {}
    for event in events:
        room = next((each.name.removeprefix(MARK) for each in parents(event) if each.name.startswith(MARK)), None)
        if room is not None:
            found[event.id] = room
            if event.sequence_nr >= 0:
                by_sequence[event.sequence_nr] = room  # the last with a number is the one that made the node
    for event in events:
        node = next((each for each in parents(event) if each.name.startswith(NODE)), None)
        if node is not None and event.id not in found:
            found[event.id] = "gradient sums" if "AccumulateGrad" in node.name else by_sequence.get(node.sequence_nr, REST)
    return found


def show(events: list[Any], steps: int, seconds: float) -> None:
    """Print two tables: by room, forward and backward, and by operation."""
    cost = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    placed = rooms(events)
    by_room: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    by_operation: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for event in events:
        spent = getattr(event, cost) / steps / 1000  # µs over all steps to ms a step
        backward = any(each.name.startswith(NODE) for each in parents(event))
        by_room[placed.get(event.id, REST)][backward] += spent
        by_operation[event.name][0] += spent
        by_operation[event.name][1] += 1 / steps
    total = 1000 * seconds
    by_room[REST][0] += max(0.0, total - sum(map(sum, by_room.values())))
    table = Table("room", "forward, ms", "backward, ms", "share", box=None, padding=(0, 2, 0, 0))
    for room, (ahead, back) in sorted(by_room.items(), key=lambda entry: -sum(entry[1])):
        table.add_row(room, f"{ahead:.2f}", f"{back:.2f}", f"{(ahead + back) / total:.1%}")
    operations = Table("operation", "calls a step", "ms a step", "share", box=None, padding=(0, 2, 0, 0))
    for name, (spent, calls) in islice(sorted(by_operation.items(), key=lambda entry: -entry[1][0]), OPERATIONS):
        operations.add_row(name.removeprefix(NODE), f"{calls:.0f}", f"{spent:.2f}", f"{spent / total:.1%}")
    Console().print(table, "", operations)


if __name__ == "__main__":
    main()
