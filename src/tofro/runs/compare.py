"""Whether all ranks carry out the same run: same config, same data, same versions.

In: each rank's config and identity. Out: nothing, or a ValueError that names the first key in which they differ. A rank that
trained on other data, or saved at another cadence, would hang or spoil the result without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tofro.config.identity import Identity
from tofro.runs import ranks
from tofro.runs.folder import versions

# Keys that machines may differ in. A path may: what it holds stands in the identity.
OWN = (
    *("outputs_dir", "path", "init_from", "init_from_ft", "tasks", "few_shot_splits", "split_file"),
    *("workers", "threads", "progress"),
)


def compare(config: DictConfig, who: Identity) -> None:
    """Compare this rank's config, data and versions with the first rank's; every rank calls this."""
    plain = OmegaConf.to_container(config, resolve=False, throw_on_missing=False)
    mine = dict(_flat(plain))
    mine |= {f"the content of {key}": value for key, value in who.full.items() if key not in mine}
    mine |= {f"the version of {name}": text for name, text in versions().items()}
    everyone = ranks.everyone(mine)
    first = everyone[0]
    with ranks.told():
        for number, theirs in enumerate(everyone):
            for key in {**first, **theirs}:
                if first.get(key) != theirs.get(key):
                    raise ValueError(
                        f"the ranks differ in {key}: {first.get(key)} on rank 0, {theirs.get(key)} on rank {number}; "
                        "start every rank with the same command, files and versions"
                    )


def _flat(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        elif name not in OWN:
            yield f"{prefix}{name}", value
