"""Model folders in the layout of Hugging Face: config.json, model.safetensors, the tokenizer's files.

In: a :class:`~tofro.encoders.model.Model` and a tokenizer, or a folder of one of the :data:`FAMILIES`. Out: a folder that
``transformers`` and sentence-transformers open without remote code, or a :class:`ModelFolder`. Heads that the Hugging Face class
of the folder does not have lie beside it in tofro_heads.safetensors. Reading executes nothing: safetensors only, and a
config.json that names code is refused. Left out: names and keys (a file for each family), the files of the weights when they
are read (weights.py), model cards, downloads.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor

from tofro.encoders import bert, distilbert, modernbert
from tofro.encoders.config_json import Description, Family, SpecialTokens, fitting
from tofro.encoders.model import Model, initialise
from tofro.encoders.naming import Tensors
from tofro.encoders.roberta import ROBERTA_FAMILY, XLM_ROBERTA_FAMILY
from tofro.encoders.sentence import CONFIG, POOLING, find_transformer, write_modules
from tofro.encoders.settings import BERT, DISTILBERT, MODERNBERT, ROBERTA, XLM_ROBERTA
from tofro.encoders.weights import EXTRA_HEADS, WEIGHTS, read_tensors, weights_of

FAMILIES: dict[str, Family] = {  # by model_type, which is EncoderSettings.family too
    BERT: bert,
    ROBERTA: ROBERTA_FAMILY,
    XLM_ROBERTA: XLM_ROBERTA_FAMILY,
    DISTILBERT: distilbert,
    MODERNBERT: modernbert,
}


class SavableTokenizer(SpecialTokens, Protocol):
    """What a folder needs of a tokenizer."""

    def save(self, folder: Path, segments: bool = True, longest: int = 512) -> Any:
        """Write the tokenizer's files; without ``segments`` it tells no texts of a pair apart, ``longest`` is what it cuts to."""


@dataclass(frozen=True)
class ModelFolder:
    """A model that was read, and what else its folder said."""

    model: Model
    labels: tuple[str, ...] | None  # of the task head, by class number; () for a regression; None without a task head
    folder: Path  # where the tokenizer's files lie too
    made_anew: tuple[str, ...]  # heads the folder lacked, drawn from the seed


def save_model(
    folder: Path, model: Model, tokenizer: SavableTokenizer, labels: tuple[str, ...] | None = None, pooling: str = "mean"
) -> None:
    """Write ``model`` and ``tokenizer`` to ``folder``, whole or not at all.

    ``labels`` are the names of the task head's classes, by number; without them they are called LABEL_0, LABEL_1... ``pooling``
    is what sentence-transformers is told, ``mean`` or ``cls``. Everything is written to a sibling folder, flushed to disk and
    renamed. A model folder of that name is replaced; a folder that holds anything else is a ValueError.
    """
    folder = Path(os.path.abspath(folder))
    _check_replaceable(folder)
    family = FAMILIES[model.settings.family]
    architecture = fitting(family.ARCHITECTURES, model.heads.keys(), model.tags_words)
    config = family.write_config(_describe_model(model, labels), model.dropout, tokenizer, architecture)
    main, extra = family.split(_canonical_state(model, family), architecture)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    temporary.mkdir()
    try:
        (temporary / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        save_file(main, temporary / WEIGHTS, metadata={"format": "pt"})
        if extra:
            save_file(extra, temporary / EXTRA_HEADS, metadata={"format": "pt"})
        tokenizer.save(temporary, model.settings.tells_segments, model.settings.max_positions)
        write_modules(temporary, model.settings.width, pooling)
        _flush(temporary)
        _move(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def load_model(folder: Path, heads_may_be_missing: Collection[str] = (), dropout: float = 0.0, seed: int = 0) -> ModelFolder:
    """Read a model folder strictly: every tensor must be there and of its shape, and none may be left over.

    Of a sentence-transformers folder it reads the encoder; weights may lie in one file or in several.
    The heads are those whose weights lie in the folder. Heads in ``heads_may_be_missing`` (``mlm``, ``pooler``, ``pair``) are
    made anew from ``seed`` where the folder lacks them; any other head that the folder's architecture promises must be there.
    Weights are kept in fp32. Raises ValueError, with the file and what to do, for everything that cannot be read.
    """
    folder = find_transformer(Path(folder))
    source = str(folder / CONFIG)
    config = _read_config(folder)
    family = FAMILIES[config["model_type"]]
    description = family.describe(config, source)
    weights = weights_of(folder)
    tensors = family.canonical(read_tensors(folder), description, str(weights))
    present = {head for head, prefix in family.HEAD_PREFIXES.items() if any(name.startswith(prefix) for name in tensors)}
    required = (set(description.heads) | set(heads_may_be_missing)) - present
    refused = sorted(required - set(heads_may_be_missing))
    if refused:
        raise ValueError(f"{weights}: has no weights of the heads {', '.join(refused)}, which {CONFIG} promises.")
    _check_depth(description, family, tensors, weights)
    _check_tokenizer(folder, description.vocabulary)
    classes = (1 if description.regression else len(description.labels)) if "task" in present else None
    try:
        with torch.device("meta"):
            heads = present | required
            model = Model(
                description.settings,
                description.vocabulary,
                heads,
                dropout,
                classes,
                description.regression,
                description.words,
            )
    except (ValueError, RuntimeError, TypeError) as error:  # sizes that do not divide, or that no tensor can have
        raise ValueError(f"{source}: {error}") from None
    made_anew = tuple(head for head in model.heads if head not in present)
    _fill(model, family, tensors, made_anew, seed, weights)
    return ModelFolder(model, description.labels if "task" in present else None, folder, made_anew)


def _describe_model(model: Model, labels: tuple[str, ...] | None) -> Description:
    regression = False
    if "task" in model.heads:
        head: Any = model.heads["task"]
        regression = head.regression
        labels = labels or tuple(f"LABEL_{index}" for index in range(head.classes))
        assert regression or len(set(labels)) == head.classes, f"{len(labels)} labels for {head.classes} classes"
    return Description(model.settings, model.vocabulary, (), labels or (), regression, model.tags_words)


def _canonical_state(model: Model, family: Family) -> Tensors:
    """Return a model's tensors under canonical names, each in memory of its own, on the CPU."""
    tensors = {}
    for ours, tensor in model.state_dict().items():
        names = family.names_of(ours)
        for name, part in zip(names, tensor.detach().chunk(len(names)), strict=True):
            tensors[name] = part.cpu().clone(memory_format=torch.contiguous_format)
    return tensors


def _check_replaceable(folder: Path) -> None:
    if not folder.exists():
        return
    entries = list(folder.iterdir()) if folder.is_dir() else [folder]
    ours = any(entry.name == WEIGHTS for entry in entries) and folder.is_dir()
    ours = ours and all(entry.is_file() or entry.name == POOLING for entry in entries)
    if entries and not ours:
        raise ValueError(f"{folder}: is in the way and not a model folder; choose another path or remove it.")


def _flush(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _move(temporary: Path, folder: Path) -> None:
    """Rename ``temporary`` to ``folder``; an older model folder goes only after the new one stands."""
    if not folder.exists():
        os.rename(temporary, folder)
    else:
        older = folder.with_name(f"{temporary.name}.old")
        os.rename(folder, older)
        try:
            os.rename(temporary, folder)
        except OSError:
            os.rename(older, folder)
            raise
        shutil.rmtree(older)
    handle = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such model folder.")
    if not path.is_file():
        raise ValueError(f"{path}: not found; a model folder holds {CONFIG} and {WEIGHTS}.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON in UTF-8 ({error}).") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path}: must hold a JSON object.")
    if config.get("model_type") not in tuple(FAMILIES):
        raise ValueError(f"{path}: model_type is {config.get('model_type')!r}; tofro reads {', '.join(FAMILIES)}.")
    return config


def _check_depth(description: Description, family: Family, tensors: dict[str, Tensor], weights: Path) -> None:
    """Compare the numbers of layers before any is built, so that a config cannot ask for a billion of them."""
    prefix = family.LAYER_PREFIX
    found = {name.removeprefix(prefix).partition(".")[0] for name in tensors if name.startswith(prefix)}
    if len(found) != description.settings.layers:
        raise ValueError(f"{weights}: holds {len(found)} layers, {CONFIG} says {description.settings.layers} layers.")


def _check_tokenizer(folder: Path, vocabulary: int) -> None:
    """Refuse a tokenizer whose largest id has no embedding."""
    path, size = folder / "tokenizer.json", 0
    if path.is_file():
        import tokenizers

        try:
            tokens = tokenizers.Tokenizer.from_file(str(path)).get_vocab(with_added_tokens=True)
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"{path}: is not a tokenizer ({error}).") from None
        size = 1 + max(tokens.values(), default=-1)
    elif (folder / "vocab.txt").is_file():
        path = folder / "vocab.txt"
        with path.open(encoding="utf-8", errors="replace") as lines:
            size = sum(1 for _ in lines)
    if size > vocabulary:
        raise ValueError(
            f"{path}: the tokenizer has {size} entries, the embedding of the model only {vocabulary}; "
            "this tokenizer belongs to another model."
        )


@torch.no_grad()
def _fill(model: Model, family: Family, tensors: dict[str, Tensor], made_anew: tuple[str, ...], seed: int, weights: Path) -> None:
    """Give ``model``, still without memory, its weights, after comparing names and shapes with the tensors of the folder."""
    fresh = tuple(f"heads.{head}." for head in made_anew)
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(fresh)}
    expected = {
        theirs: list(part.shape)
        for ours, tensor in state.items()
        for theirs, part in zip(family.names_of(ours), tensor.chunk(len(family.names_of(ours))), strict=True)
    }
    problems = [f"{name} is missing" for name in expected if name not in tensors]
    problems += [f"{name} is left over" for name in tensors if name not in expected]
    problems += [
        f"{name} has shape {list(tensors[name].shape)}, not {shape}"
        for name, shape in expected.items()
        if name in tensors and list(tensors[name].shape) != shape
    ]
    if problems:
        more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise ValueError(f"{weights}: does not fit {CONFIG}: {'; '.join(problems[:10])}{more}.")
    model.to_empty(device="cpu")
    parameters = dict(model.named_parameters())
    for ours in state:
        parameters[ours].copy_(torch.cat([tensors[theirs].to(parameters[ours].dtype) for theirs in family.names_of(ours)]))
    for head in made_anew:
        initialise(model.heads[head], model.settings, seed, f"heads.{head}")
