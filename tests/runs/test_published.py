"""From a published folder of every family, through two-way training, to folders that transformers opens."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tofro
from tests.conftest import small_run
from tests.kinds import write
from tests.runs.conftest import PROMPT, Chain, carry_out
from tofro.batches.labelled import task_batches
from tofro.config.compose import compose
from tofro.encoders.folder import load_model
from tofro.runs.context import Context
from tofro.runs.folder import Result
from tofro.text.task import Example
from tofro.tokens.tokenizer import Tokenizer

BERTS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
DISTILLED = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {  # kind of tokenizer, prefix of the classes, sizes
    "bert": ("WordPiece", "Bert", {**BERTS, "max_position_embeddings": 64}),
    "distilbert": ("WordPiece", "DistilBert", {**DISTILLED, "max_position_embeddings": 64}),
    "roberta": ("RoBERTa", "Roberta", {**BERTS, "type_vocab_size": 1, "max_position_embeddings": 66}),
    "xlm-roberta": ("XLM-R", "XLMRoberta", {**BERTS, "type_vocab_size": 1, "max_position_embeddings": 66}),
    "modernbert": ("ModernBERT", "ModernBert", {**BERTS, "max_position_embeddings": 64}),
}
QUICK = ("roberta", "distilbert")
EVERY = [pytest.param(family, marks=() if family in QUICK else pytest.mark.slow) for family in FAMILIES]
MOSTLY_SLOW = [pytest.param(family, marks=() if family == "roberta" else pytest.mark.slow) for family in FAMILIES]
STEPS = ["budget.steps=2", "budget.evaluate_every=2"]
Publish = Callable[..., Path]


@pytest.fixture(scope="module")
def publish(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Publish:
    """Write a folder as transformers publishes it: random weights of a class, and a tokenizer of the family's kind."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    texts = (world / "corpus.txt").read_text().splitlines()

    def written(family: str, head: str = "ForMaskedLM") -> Path:
        kind, prefix, sizes = FAMILIES[family]
        folder = write(tmp_path_factory.mktemp(family), kind, texts)
        tokenizer = Tokenizer.load(folder)
        special = {f"{name}_token_id": getattr(tokenizer, f"{name}_id") for name in ("pad", "cls", "sep")}
        config = getattr(transformers, f"{prefix}Config")(
            vocab_size=tokenizer.size, **sizes, **special, bos_token_id=tokenizer.cls_id, eos_token_id=tokenizer.sep_id
        )
        torch.manual_seed(0)
        getattr(transformers, prefix + head)(config).save_pretrained(folder)
        return folder

    return written


def adapt(world: Path, outputs: Path, folder: Path, *more: str) -> Result:
    return carry_out([*small_run(world, outputs), f"init_from={folder}", *STEPS, *more])


def open_in(automatic: str, folder: Path) -> Any:
    """The folder as transformers opens it by itself, nothing missing and nothing left over."""
    import transformers

    model, report = getattr(transformers, automatic).from_pretrained(folder, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), automatic
    return model.eval()


def same_answers(folder: Path, automatic: str, texts: list[tuple[str, str | None]]) -> None:
    """Compare tokens and the answers of the task head with those of transformers, text by text."""
    import transformers

    theirs, peer = open_in(automatic, folder), transformers.AutoTokenizer.from_pretrained(folder)
    ours, tokenizer = load_model(folder), Tokenizer.load(folder)
    for first, second in texts:
        (batch,) = task_batches([Example(first, second, "")], tokenizer, 64, 1)
        given = peer(first, second, return_tensors="pt")
        assert given["input_ids"][0].tolist() == batch.tokens.tolist()
        with torch.no_grad():
            difference = ours.model.task_logits(ours.model.encoder(batch), batch) - theirs(**given).logits[0]
        assert difference.abs().max() <= 1e-5


@pytest.mark.parametrize("family", EVERY)
def test_both_ways_from_a_published_folder(family: str, world: Path, publish: Publish, tmp_path: Path) -> None:
    result = adapt(world, tmp_path, publish(family), "method=two_way")
    assert all(math.isfinite(value) for value in result.metrics.values())
    assert {"validation/mlm_loss_pre", "validation/mlm_loss_start", "test/accuracy_ft"} <= set(result.metrics)
    assert "init_from lacks the heads pooler, pair; they were made anew" in result.data["notes"]
    models = result.folder / "models"
    open_in("AutoModelForPreTraining" if family == "bert" else "AutoModelForMaskedLM", models / "pre")
    same_answers(
        models / "ft", "AutoModelForSequenceClassification", [("The bright river finds the garden.", None), ("a", "the letter")]
    )
    assert load_model(models / "pre", heads_may_be_missing=("mlm", "pair")).made_anew == ()
    assert load_model(models / "ft").labels == ("bad", "good")


def test_bert_opens_with_both_heads_of_its_pretraining(chain: Chain) -> None:
    open_in("AutoModelForPreTraining", chain.runs["pretrain"].folder / "models" / "pre")
    same_answers(
        chain.runs["two_way"].folder / "models" / "ft",
        "AutoModelForSequenceClassification",
        [("The bright river.", None), ("a", "b")],
    )


@pytest.mark.parametrize("family", MOSTLY_SLOW)
def test_a_task_head_and_a_bare_model_are_starts_too(family: str, world: Path, publish: Publish, tmp_path: Path) -> None:
    """A head that answers another task is dropped; the other heads are made anew."""
    for head in ("ForSequenceClassification", "Model"):
        result = adapt(world, tmp_path, publish(family, head), "method=full", "method.measure=false")
        assert any("lacks the heads mlm" in note for note in result.data["notes"])
        open_in("AutoModelForSequenceClassification", result.folder / "models" / "ft")


@pytest.mark.parametrize("family", MOSTLY_SLOW)
def test_tagged_words_and_prompts_work(family: str, world: Path, publish: Publish, tmp_path: Path) -> None:
    rows = [{"tokens": ["The", mood, "river", "finds"], "tags": ["O", f"B-{mood}", "O", "O"]} for mood in ("warm", "cold")] * 20
    rows = [{**row, "tokens": [*row["tokens"], str(place)], "tags": [*row["tags"], "O"]} for place, row in enumerate(rows)]
    (tmp_path / "tags.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = publish(family)
    result = adapt(world, tmp_path, folder, "method=full", f"task.path={tmp_path / 'tags.jsonl'}")
    assert {"test/entity_f1_ft", "test/probe_tags_start"} <= set(result.metrics)
    open_in("AutoModelForTokenClassification", result.folder / "models" / "ft")
    asked = adapt(world, tmp_path, folder, *PROMPT)
    assert math.isfinite(asked.metrics["test/accuracy_pre"])


def test_a_folder_without_vocabulary_of_its_own_counts_positions_after_padding(world: Path, tmp_path: Path) -> None:
    """From scratch a RoBERTa has the tokenizer that tofro trains, whose padding is 0."""
    base = [*small_run(world, tmp_path), "encoder.family=roberta", "method=pretrain", *STEPS]
    result = carry_out(base)
    opened = open_in("AutoModelForMaskedLM", result.folder / "models" / "pre")
    assert (opened.config.pad_token_id, opened.config.max_position_embeddings) == (0, 65)
    with pytest.raises(ValueError, match=r"encoder.first_position=2.*set encoder.first_position=1"):
        carry_out([*base, "encoder.first_position=2"])


def test_measures_pool_as_the_folder_asks(world: Path, publish: Publish, tmp_path: Path) -> None:
    folder = publish("distilbert", "Model")
    whole = tmp_path / "sentences"
    (whole / "1_Pooling").mkdir(parents=True)
    folder.rename(whole / "0_Transformer")
    parts = [{"path": "0_Transformer", "type": "a.Transformer"}, {"path": "1_Pooling", "type": "a.Pooling"}]
    (whole / "modules.json").write_text(json.dumps(parts))
    asks = whole / "1_Pooling" / "config.json"
    asks.write_text(json.dumps({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}))
    found = {how: adapt(world, tmp_path, whole, "method=measure", f"method.pooling={how}") for how in ("folder", "cls", "mean")}
    assert found["folder"].metrics == found["cls"].metrics != found["mean"].metrics
    kept = adapt(world, tmp_path, whole, "method=full", "method.pooling=folder", "method.measure=false").folder / "models" / "ft"
    assert json.loads((kept / "1_Pooling" / "config.json").read_text())["pooling_mode_cls_token"] is True
    asks.write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(ValueError, match=r"method.pooling=folder: init_from asks for max_tokens"):
        adapt(world, tmp_path, whole, "method=measure", "method.pooling=folder")
    with pytest.raises(ValueError, match=r"method.pooling=folder: init_from does not say"):
        adapt(world, tmp_path, whole / "0_Transformer", "method=measure", "method.pooling=folder")


def test_a_part_counts_by_its_content(world: Path, publish: Publish, tmp_path: Path) -> None:
    from tofro.runs.run import identify

    whole = tmp_path / "sentences"
    whole.mkdir()
    publish("distilbert", "Model").rename(whole / "0_Transformer")
    (whole / "modules.json").write_text(json.dumps([{"path": "0_Transformer", "type": "a.Transformer"}]))
    config = compose([*small_run(world, tmp_path), f"init_from={whole}", "method=full"])
    before = identify(config).id
    path = whole / "0_Transformer" / "tokenizer_config.json"
    path.write_text(path.read_text() + " ")
    assert identify(config).id != before
    with pytest.warns(UserWarning, match="attention dropout"):
        assert Context(config, tmp_path / "run-0").start.lineage is not None


@pytest.mark.filterwarnings("ignore:.*attention dropout is 0")
@pytest.mark.parametrize("family", FAMILIES)
def test_masks_are_filled_as_transformers_fills_them(publish: Publish, family: str) -> None:
    """Also where the space before a mask belongs to it, as in byte-level tokenizers."""
    import transformers

    folder, text = publish(family), "The king saw [MASK] fox, and [MASK] ran."
    found = tofro.load(folder).fill_mask(text, k=3)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    inputs = tokenizer(text.replace("[MASK]", tokenizer.mask_token), return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        logits = model(**inputs).logits[0]
    chances, tokens = logits[inputs["input_ids"][0] == tokenizer.mask_token_id].softmax(-1).topk(3)
    assert [[fill.probability for fill in each] for each in found] == [pytest.approx(row, abs=1e-5) for row in chances.tolist()]
    assert [[fill.token for fill in each] for each in found] == [tokenizer.convert_ids_to_tokens(row) for row in tokens.tolist()]
