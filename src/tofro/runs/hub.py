"""Models of the Hugging Face hub by name: which folder of this machine holds what a name stands for.

In: where a run is to start, or what model is to be opened. Out: a folder. A name (``bert-base-chinese``, ``org/name``,
``org/name@revision``) is fetched into the hub library's own cache and answered from there under ``HF_HUB_OFFLINE=1``; of its
files only those that tofro reads, none of which is code. Everything else is taken for a path. Needs the extra `hub`; no torch.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from tofro.text.extras import first_line, need

# Fetched by name, so that no other format of the weights comes along, and nothing that could run.
ENCODER_FILES = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",  # of weights in several files
    "model-?????-of-?????.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentence_bert_config.json",
)
FILES = (*ENCODER_FILES, "modules.json", "tofro_heads.safetensors", *(f"?_Transformer/{name}" for name in ENCODER_FILES))
POOLING = "?_Pooling/config.json"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?")


def locate(place: str, key: str = "init_from") -> Path:
    """Return the path that ``place`` is, or the folder with the hub's model of that name, fetched where it is not there yet.

    ``key`` is the config key or argument that errors name: ValueError where the name can't be fetched, with what to do without
    a network.
    """
    path = Path(place).expanduser()
    if path.exists() or not _NAME.fullmatch(place):
        return path
    return _fetch(place, key)


@lru_cache(maxsize=64)
def _fetch(place: str, key: str) -> Path:
    """Return the folder of a name; within one process a name stands for the same commit."""
    name, _, revision = place.partition("@")
    library = need("huggingface_hub", f"{key}={place}: there is no such folder here, and asking the hub for a model of that name")
    try:
        folder = Path(library.snapshot_download(name, revision=revision or None, allow_patterns=[*FILES, POOLING]))
    except Exception as error:  # the library and its network layer raise dozens of kinds
        raise ValueError(
            f"{key}={place}: no such folder here, and the hub gave no model of that name ({first_line(error)}). Without a "
            f"network: where there is one, `hf download {name} --local-dir FOLDER`, copy FOLDER here and give {key}=FOLDER"
        ) from error
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*/*.safetensors")):
        raise ValueError(
            f"{key}={place}: the hub's model has no model.safetensors, and tofro reads no pickles, which can run code. Where you "
            f"trust it, transformers' AutoModel.from_pretrained('{name}').save_pretrained(FOLDER) writes one, its AutoTokenizer "
            f"the tokenizer; then give {key}=FOLDER"
        )
    return folder
