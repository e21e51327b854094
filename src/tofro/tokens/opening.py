"""Tokenizers out of folders: tokenizer.json, or the older files that the `tokenizers` library can build one from.

In: a folder. Out: the library's tokenizer, whether it folds case, and its special tokens. Read are BERT's WordPiece, byte-level
BPE (RoBERTa, ModernBERT) and SentencePiece in tokenizer.json (XLM-R); of older files vocab.txt (BERT), and vocab.json with
merges.txt (RoBERTa). What they name as code is never run. Left out: what a tokenizer does (tokenizer.py), training (training.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from tofro.tokens.specials import SPECIALS, Specials, find_specials

CONFIG, NAMES = "tokenizer_config.json", "special_tokens_map.json"
WORDPIECE, BYTES, METASPACE = "WordPiece", "ByteLevel", "Metaspace"  # how tokens are written
CONVERT = "transformers.AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) writes one"


@dataclass(frozen=True)
class Opened:
    """A tokenizer as its folder describes it."""

    backend: tokenizers.Tokenizer
    lowercase: bool
    specials: Specials


def open_folder(folder: Path) -> Opened:
    """Read the tokenizer in ``folder``. Raises ValueError that names the file where there is none, or one of another kind."""
    configs = [_read_json(folder / name) for name in (CONFIG, NAMES) if (folder / name).is_file()]
    config: dict[str, Any] = configs[0] if configs else {}
    lowercase = False
    if (folder / "tokenizer.json").is_file():
        backend, lowercase = _open_json(folder / "tokenizer.json")
    elif (folder / "vocab.txt").is_file():
        backend, lowercase = _open_vocabulary(folder / "vocab.txt", config)
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        backend = _open_merges(folder, config)
    else:
        pieces = next((name for name in ("sentencepiece.bpe.model", "spiece.model") if (folder / name).is_file()), None)
        if pieces is not None:
            raise ValueError(
                f"{folder / pieces}: SentencePiece's own file, which tofro does not read; it reads tokenizer.json: {CONVERT}"
            )
        raise ValueError(
            f"{folder}: no tokenizer.json and no vocab.txt, nor vocab.json with merges.txt; tokenizer.path must name a folder "
            "with one of them"
        )
    backend.no_padding()
    backend.no_truncation()
    return Opened(backend, lowercase, find_specials(backend, configs, folder))


def way_of_writing(backend: tokenizers.Tokenizer) -> str | None:
    """Return how a tokenizer writes tokens: :data:`WORDPIECE`, :data:`BYTES` or :data:`METASPACE`; None for another way."""
    if isinstance(backend.model, models.WordPiece):
        return WORDPIECE
    cutter = json.dumps(description(backend.pre_tokenizer))
    return next((way for way in (BYTES, METASPACE) if f'"type": "{way}"' in cutter), None)


def description(part: Any) -> dict[str, Any]:
    """Return how tokenizer.json describes a part of a tokenizer; empty where the tokenizer has no such part."""
    return {} if part is None else dict(json.loads(part.__getstate__()))


def bert_backend(
    vocabulary: dict[str, int], lowercase: bool, strip_accents: bool | None = None, chinese: bool = True
) -> tokenizers.Tokenizer:
    """Build the library's tokenizer from ``vocabulary`` (token -> id), as BERT's own code tokenises (Devlin et al. 2019)."""
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=SPECIALS[1]))
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=strip_accents, handle_chinese_chars=chinese
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    if vocabulary:
        present = [token for token in SPECIALS if token in vocabulary]
        backend.add_special_tokens(present)
    if "[CLS]" in vocabulary and "[SEP]" in vocabulary:
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
        )
    return backend


def _open_json(path: Path) -> tuple[tokenizers.Tokenizer, bool]:
    layout = _read_json(path)
    try:
        backend = tokenizers.Tokenizer.from_str(json.dumps(layout))
    except Exception as error:  # the library raises bare Exception
        raise ValueError(f"{path}: not a tokenizer that the tokenizers library reads ({error})") from error
    if way_of_writing(backend) is None:
        kind = (layout.get("model") or {}).get("type", "unknown")
        raise ValueError(f"{path}: a tokenizer of type {kind}; tofro reads WordPiece, byte-level BPE and SentencePiece's")
    return backend, bool(description(backend.normalizer).get("lowercase", False))


def _open_vocabulary(path: Path, config: dict[str, Any]) -> tuple[tokenizers.Tokenizer, bool]:
    lines = path.read_text(encoding="utf-8").split("\n")
    entries = [line.rstrip("\r") for line in lines]
    while entries and not entries[-1]:
        entries.pop()
    lowercase = bool(config.get("do_lower_case", True))
    vocabulary = {token: number for number, token in enumerate(entries)}
    if len(vocabulary) != len(entries):
        raise ValueError(f"{path}: {len(entries) - len(vocabulary)} entries occur twice; each line must hold another token")
    backend = bert_backend(vocabulary, lowercase, config.get("strip_accents"), bool(config.get("tokenize_chinese_chars", True)))
    return backend, lowercase


def _open_merges(folder: Path, config: dict[str, Any]) -> tokenizers.Tokenizer:
    """Build the byte-level tokenizer of RoBERTa (Liu et al. 2019) from its vocabulary and its merges."""
    files = folder / "vocab.json", folder / "merges.txt"
    try:
        backend = tokenizers.Tokenizer(models.BPE.from_file(*map(str, files)))
    except Exception as error:  # the library raises bare Exception
        raise ValueError(f"{files[0]}: not a vocabulary that goes with merges.txt ({error})") from error
    prefix = bool(config.get("add_prefix_space", False))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    backend.decoder = decoders.ByteLevel()
    names = find_specials(backend, [config], folder)  # RoBERTa's layout, since there is no post-processor yet
    spaced = AddedToken(names.mask, lstrip=True, special=True)  # it takes the space before it
    backend.add_special_tokens([names.pad, *([names.unk] if names.unk else []), names.cls, names.sep, spaced])
    last, first = ((token, int(backend.token_to_id(token) or 0)) for token in (names.sep, names.cls))
    backend.post_processor = processors.RobertaProcessing(last, first, trim_offsets=True, add_prefix_space=prefix)
    return backend


def _read_json(path: Path) -> dict[str, Any]:
    try:
        layout = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(layout, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return layout
