"""A trained model opened for use: vectors of texts, how alike they are, words for a mask, and answers to its task.

In: the folder of a finished run, a model folder, or a name on the hub. Out: :class:`Loaded`, which ``tofro.load`` returns and
``tofro predict`` asks; its answers are numpy arrays and plain values in the order of the texts. Texts go through the packed
encoder in batches of like length. Left out: files (text/inputs.py) and what is printed (predicting.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tofro.batches.labelled import LabelledBuilder
from tofro.batches.packing import pack, to_batch
from tofro.batches.types import Batch
from tofro.encoders.folder import load_model
from tofro.encoders.inference import inference
from tofro.encoders.model import Model
from tofro.encoders.pooling import POOLINGS, pool
from tofro.encoders.sentence import Rule, find_transformer, read_rule
from tofro.runs.model_place import find_folder, length_of_run
from tofro.text.inputs import Input, split_words
from tofro.text.tags import OUTSIDE
from tofro.tokens.tokenizer import Tokenizer

LENGTH = 512  # tokens of a text, where neither the caller nor a run says how many
BATCH_TOKENS = {"cpu": 4096, "cuda": 65_536}  # of a forward pass; bears on speed and memory alone
BLOCK = 4096  # texts tokenised and encoded at a time

Text = str | tuple[str, str] | Sequence[str]


@dataclass(frozen=True)
class Prediction:
    """What a task head says about one text.

    ``label`` is the likeliest class, the score of a regression, or one tag for each of the ``words``, O for a word that the model
    does not see. ``probability`` is that of the label, or one for each tag (None for a word that is not seen); None in a
    regression.
    """

    label: str | float | tuple[str, ...]
    probability: float | tuple[float | None, ...] | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)  # of each class, in the model's order
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fill:
    """A token in the place of a mask, its probability, and the text with it."""

    token: str
    probability: float
    text: str


@dataclass(frozen=True, eq=False)
class Loaded:
    """An encoder, its tokenizer and its heads. ``labels`` are those of the task head: () for a regression, None without one."""

    model: Model
    tokenizer: Tokenizer
    labels: tuple[str, ...] | None
    folder: Path
    max_length: int  # tokens of a text, special ones included; longer texts are cut at their ends
    device: torch.device
    rule: Rule  # how its folder makes a vector of a text

    @property
    def kind(self) -> str | None:
        """classification, regression or tags; None without a task head."""
        if self.labels is None:
            return None
        return "tags" if self.model.tags_words else "classification" if self.labels else "regression"

    @property
    def width(self) -> int:
        """Width D of the vectors."""
        return self.model.settings.width

    def encode(self, texts: Sequence[str], pooling: str | None = None, normalize: bool | None = None) -> np.ndarray:
        """Return one vector per text, (N, D) float32.

        ``pooling`` is ``mean``, over all tokens, ``cls``, or ``folder``, which None means too: as the model's folder asks, of
        sentence-transformers' folders for example, else the mean. ``normalize`` scales every vector to length 1; None does so
        where the folder is followed and asks for it. ValueError where it asks for what tofro has not. Example:
        ``tofro.load("RUN").encode(["one text", "another"])``.
        """
        follow = pooling in (None, "folder")
        how = self._folders_pooling() if follow else pooling
        if how not in POOLINGS:
            raise ValueError(f"pooling={pooling!r} is not known; use folder, mean or cls")
        texts = _plain(texts)
        if follow and self.rule.lower:
            texts = [text.lower() for text in texts]
        found = np.zeros((len(texts), self.width), np.float32)
        with inference(self.model):
            for samples, batch in self._batches([Input(text) for text in texts]):
                found[samples] = pool(self.model.encoder(batch), batch, how).float().cpu().numpy()
        if (follow and self.rule.normalize) if normalize is None else normalize:
            found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        return found

    def similarity(self, a: Sequence[str] | np.ndarray, b: Sequence[str] | np.ndarray, pooling: str | None = None) -> np.ndarray:
        """Return cosines of each of ``a`` with each of ``b``, (N, M): texts, or vectors (N, D) and (M, D) of :meth:`encode`."""
        sides = [each if isinstance(each, np.ndarray) else self.encode(each, pooling) for each in (a, b)]
        first, second = (side / np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-12) for side in sides)
        cosines: np.ndarray = first @ second.T
        return cosines

    def fill_mask(self, text: str, k: int = 5) -> list[list[Fill]]:
        """Return the ``k`` likeliest tokens for each mask of a text, likeliest first; one list for each mask.

        A mask is written [MASK], or as the tokenizer writes it. Masks are filled one by one, the others staying masks. ValueError
        where the text has none, is too long, or the model has no head for masked words.
        """
        if "mlm" not in self.model.heads:
            raise ValueError(f"{self.folder}: has no head for masked words; {self._heads()}")
        mask = self.tokenizer.token(self.tokenizer.mask_id) or "[MASK]"
        parts = text.replace("[MASK]", mask).split(mask)
        ids, starts = self._with_masks(parts)
        if len(parts) < 2:
            raise ValueError(f"the text has no mask; write {mask} where a word is to be found")
        if len(ids) + 2 > self.max_length:
            raise ValueError(f"the text has {len(ids) + 2} tokens and the model reads {self.max_length}; shorten it")
        packed = pack(ids, starts, np.zeros((1, 1), np.int64), np.array([[len(ids)]]), self.tokenizer)
        masked = torch.from_numpy(np.flatnonzero(packed.tokens == self.tokenizer.mask_id))
        batch = to_batch(packed, np.zeros(1, np.int64)).to(self.device)
        with inference(self.model):
            logits = self.model.mlm_logits(self.model.encoder(batch), masked.to(self.device)).float()  # (masks, V)
        chances, tokens = logits.softmax(-1).topk(min(k, logits.shape[1]))
        return [
            [self._fill(parts, mask, place, int(token), float(chance)) for token, chance in zip(*row, strict=True)]
            for place, row in enumerate(zip(tokens.tolist(), chances.tolist(), strict=True))
        ]

    def predict(self, texts: Sequence[Text]) -> list[Prediction]:
        """Return what the task head says of each text, in their order.

        A text is a string, a pair of strings (a tuple), or, for a model that tags words, a list of words; a string is then cut
        into words. ValueError where the model has no task head.
        """
        return self.answer([self._input(text) for text in texts])

    def answer(self, inputs: Sequence[Input]) -> list[Prediction]:
        """Return what the task head says of each input, in their order."""
        kind = self.require_task()
        found: list[Prediction | None] = [None] * len(inputs)
        with inference(self.model):
            for samples, batch in self._batches(inputs):
                logits = self.model.task_logits(self.model.encoder(batch), batch).float()  # (B, C), (B,) scores or (W, C)
                if kind == "tags":
                    answers = self._tags(logits, batch, [inputs[sample].words for sample in samples])
                elif kind == "regression":
                    answers = [Prediction(score) for score in logits.tolist()]
                else:
                    answers = self._classes(logits)
                for sample, answer in zip(samples, answers, strict=True):
                    found[sample] = answer
        return [answer for answer in found if answer is not None]

    def require_task(self) -> str:
        """Return the kind of the task head; ValueError where there is none."""
        if self.kind is None:
            raise ValueError(
                f"{self.folder}: has no task head, so it predicts nothing; {self._heads()}. Fine-tune it: "
                "tofro run method=full task=... init_from=FOLDER; or ask it through its prompt, as it must be where "
                "method=prompt_tune made it: tofro run method=prompt prompt=... prompt.calibration=none task=... init_from=FOLDER"
            )
        return self.kind

    def _folders_pooling(self) -> str:
        """Return how the folder pools, the mean where it does not say; ValueError where tofro can't do as it asks."""
        how = self.rule.pooling
        asked = [*self.rule.others, *([how] if how is not None and how not in POOLINGS else [])]
        if asked:
            known = " or ".join(POOLINGS)
            raise ValueError(
                f"{self.folder}: its vectors are made with {', '.join(asked)}, which tofro has not; set pooling to {known}"
            )
        return how or "mean"

    def _batches(self, inputs: Sequence[Input]) -> Iterator[tuple[list[int], Batch]]:
        """Yield (places among the inputs, batch on the device), of like length, block by block."""
        for first in range(0, len(inputs), BLOCK):
            block = inputs[first : first + BLOCK]
            if len({(each.text_b is None, bool(each.words)) for each in block}) > 1:
                raise ValueError("texts, pairs and lists of words can't be mixed; ask about each kind by itself")
            builder = LabelledBuilder(block, self.tokenizer, self.max_length)
            for batch in builder.by_tokens(BATCH_TOKENS[self.device.type]):
                assert batch.samples is not None
                yield (batch.samples + first).tolist(), batch.to(self.device)

    def _classes(self, logits: Tensor) -> list[Prediction]:
        assert self.labels is not None
        rows, best = logits.softmax(-1).tolist(), logits.argmax(-1).tolist()
        return [
            Prediction(self.labels[index], row[index], dict(zip(self.labels, row, strict=True)))
            for row, index in zip(rows, best, strict=True)
        ]

    def _tags(self, logits: Tensor, batch: Batch, words: Sequence[tuple[str, ...]]) -> list[Prediction]:
        """Return the tags of each text: a word that the model does not see is O."""
        assert self.labels is not None
        chances, best = (each.tolist() for each in logits.softmax(-1).max(-1))
        seen, answers, first = batch.seen.tolist(), [], 0
        for text in words:
            places = range(first, first + len(text))
            tags = tuple(self.labels[best[place]] if seen[place] else OUTSIDE for place in places)
            answers.append(Prediction(tags, tuple(chances[place] if seen[place] else None for place in places), words=text))
            first += len(text)
        return answers

    def _input(self, text: Text) -> Input:
        if self.kind == "tags":
            words = split_words(text) if isinstance(text, str) else tuple(text)
            if not words or not all(isinstance(word, str) for word in words):
                raise ValueError(f"{text!r} has no words to tag")
            return Input(" ".join(words), None, words)
        if isinstance(text, str):
            return Input(text)
        if len(text) == 2 and all(isinstance(part, str) for part in text):
            return Input(text[0], text[1])
        raise ValueError(f"{text!r} is neither a text nor a pair of texts")

    def _with_masks(self, parts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids (N,) and word starts (N,) of the parts of a text with a mask between every two.

        The space before a mask belongs to it, as in the published byte-level tokenizers; to WordPiece it is nothing.
        """
        encoded = self.tokenizer.encode_flat([*(part.rstrip() for part in parts[:-1]), parts[-1]])
        bounds = encoded.offsets[1:-1]
        return np.insert(encoded.ids, bounds, self.tokenizer.mask_id), np.insert(encoded.word_starts, bounds, True)

    def _fill(self, parts: Sequence[str], mask: str, place: int, token: int, chance: float) -> Fill:
        word = self.tokenizer.decode([token]).removeprefix("##").strip()
        before, after = mask.join(parts[: place + 1]), mask.join(parts[place + 1 :])
        return Fill(self.tokenizer.token(token) or "", chance, f"{before}{word}{after}")

    def _heads(self) -> str:
        return f"it has the heads {', '.join(self.model.heads)}" if len(self.model.heads) else "it has no head"


def load(place: str | Path, max_length: int | None = None, device: str | None = None, key: str = "folder") -> Loaded:
    """Open a finished run's folder (its ``models/ft``, else its ``models/pre``), a model folder, or a model of the hub by name.

    ``max_length`` is how many tokens of a text are read; without it as many as in the run that made the model, or as its
    sentence-transformers folder says, elsewhere at most 512. ``device`` is ``cpu`` or ``cuda``; None takes CUDA where it is.
    ``key`` is what errors call the place. Raises ValueError for a folder that can't be used, or a name that can't be fetched.
    """
    whole = find_folder(place, key)
    folder, rule = find_transformer(whole), read_rule(whole)
    opened = load_model(folder)
    longest = opened.model.settings.max_positions
    length = max_length or min(length_of_run(folder) or rule.length or LENGTH, longest)
    if not 8 <= length <= longest:
        raise ValueError(f"max_length={length}: this model reads from 8 to {longest} tokens")
    kinds = ["cuda", "cpu"] if torch.cuda.is_available() else ["cpu"]
    if device is not None and device not in kinds:
        raise ValueError(f"device={device}: no device of this machine that tofro uses; give {' or '.join(kinds)}")
    where = torch.device(device or kinds[0])
    model = opened.model.to(where).eval()
    return Loaded(model, Tokenizer.load(folder), opened.labels, folder, length, where, rule)


def _plain(texts: Sequence[str]) -> Sequence[str]:
    """Return texts; ValueError for a single string, whose letters would be taken for texts."""
    if isinstance(texts, str):
        raise ValueError("a list of texts was expected, not one text; write [text]")
    odd = next((text for text in texts if not isinstance(text, str)), None)
    if odd is not None:
        raise ValueError(f"a list of texts was expected; it holds {type(odd).__name__}")
    return texts
