"""Small tokenizers of every published kind, trained in milliseconds, as Hugging Face's folders hold them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tofro.tokens.settings import TokenizerSettings
from tofro.tokens.training import train_tokenizer

TEXTS = [
    "The quick brown fox jumps over the lazy dog, doesn't it?",
    "Unbelievable! Unbelievers believe that foxes are quicker than dogs, and e-mail isn't quick.",
    "中文和英文 mixed in one line: 狐狸跳过了狗。",
    "Café, naïve, déjà vu: accents are folded (see page 12).",
] * 5
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True, special=True)]
MODERN = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", AddedToken("[MASK]", lstrip=True, special=True)]


def byte_level(texts: Iterable[str] = TEXTS, modern: bool = False, size: int = 400) -> tokenizers.Tokenizer:
    """Byte-level BPE, laid out as RoBERTa's or as ModernBERT's."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.normalizer = normalizers.NFC() if modern else None
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=MODERN if modern else ROBERTA,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    if modern:
        backend.post_processor = template(backend, "[CLS]", "[SEP]", "[CLS] $A [SEP] $B [SEP]")
    else:
        ends = [(token, backend.token_to_id(token)) for token in ("</s>", "<s>")]
        backend.post_processor = processors.RobertaProcessing(*ends, trim_offsets=True, add_prefix_space=False)
    return backend


def unigram(texts: Iterable[str] = TEXTS, size: int = 160) -> tokenizers.Tokenizer:
    """SentencePiece's unigram model, as XLM-R has it."""
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=ROBERTA, unk_token="<unk>", show_progress=False)
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = template(backend, "<s>", "</s>", "<s> $A </s> </s> $B </s>")
    return backend


def word_piece(texts: Iterable[str] = TEXTS, size: int = 256) -> tokenizers.Tokenizer:
    """BERT's WordPiece."""
    return train_tokenizer(TokenizerSettings(vocabulary=size), texts).backend


def template(backend: tokenizers.Tokenizer, first: str, last: str, pair: str) -> processors.TemplateProcessing:
    """A post-processor that lays texts out between two tokens."""
    ids = [(token, backend.token_to_id(token)) for token in (first, last)]
    return processors.TemplateProcessing(single=f"{first} $A {last}", pair=pair, special_tokens=ids)


KINDS = {
    "WordPiece": word_piece,
    "RoBERTa": byte_level,
    "ModernBERT": lambda texts=TEXTS: byte_level(texts, modern=True),
    "XLM-R": unigram,
}


def write(folder: Path, kind: str, texts: Iterable[str] = TEXTS) -> Path:
    """Write the tokenizer of a kind as a published folder has it; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    backend = KINDS[kind](texts)
    backend.save(str(folder / "tokenizer.json"))
    names = [str(getattr(token, "content", token)) for token in (ROBERTA if "<s>" in backend.get_vocab() else MODERN)]
    parts = {"mask": "mask", "pad": "pad", "unk": "unk", "cls": "cls", "sep": "sep", "s": "cls", "/s": "sep"}
    config = {f"{parts[name.lower().strip('<>[]')]}_token": name for name in names}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **config}))
    return folder
