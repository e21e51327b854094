"""The encoder's properties: packing is invisible, freezing costs nothing, weights are a function of the seed."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tofro.batches.packing import fill
from tofro.batches.types import Batch
from tofro.encoders.attention import _flash_applies, attend
from tofro.encoders.layout import Layout
from tofro.encoders.model import Model, build_model
from tofro.encoders.pooling import pool
from tofro.encoders.settings import EncoderSettings, LoraSettings, TopKSettings, TuningSettings
from tofro.encoders.tuning import train_all, train_bias, train_head, train_lora, train_norm, train_top_k
from tofro.objectives.language import mlm_loss

from .conftest import SMALL, VOCABULARY, make_batch, randomise, unpad

LENGTHS = [7, 1, 12, 3]


def alone(batch: Batch, index: int) -> Batch:
    """One sequence of a batch as a batch of its own."""
    start, end = batch.cu_seqlens[index : index + 2].tolist()
    cut = {name: getattr(batch, name)[start:end] for name in ("tokens", "positions", "segments")}
    return Batch(**cut, cu_seqlens=torch.tensor([0, end - start], dtype=torch.int32), max_length=end - start)


@pytest.fixture
def model() -> Model:
    """A small model with a head of each kind and random weights everywhere."""
    built = build_model(SMALL, VOCABULARY, classes=3)
    randomise(built)
    return built


MIXED = [40, 3, 38, 39, 4, 1, 20, 3]  # makes groups, some of them full


@pytest.mark.parametrize("window", [None, 1, 4, 30, 100])
@pytest.mark.parametrize("lengths", [LENGTHS, [5, 5, 5], MIXED])
def test_attention_equals_a_loop_over_sequences(lengths: list[int], window: int | None) -> None:
    qkv = torch.randn(sum(lengths), 3, 2, 8, dtype=torch.float64, requires_grad=True)
    cu_seqlens = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32)
    expected = []
    for part in qkv.split(lengths):
        query, key, value = part.unbind(1)
        scores = torch.einsum("qhd,khd->hqk", query, key) / math.sqrt(8)
        if window is not None:
            places = torch.arange(len(part))
            scores = scores.masked_fill((places[:, None] - places).abs() > window, -torch.inf)
        weights = scores.softmax(-1)
        expected.append(torch.einsum("hqk,khd->qhd", weights, value).flatten(1))
    reference = torch.cat(expected)
    result = attend(qkv, Layout(cu_seqlens, max(lengths), sum(lengths)), window)
    torch.testing.assert_close(result, reference, atol=1e-12, rtol=0)
    weight = torch.randn_like(reference)
    gradients = [torch.autograd.grad((out * weight).sum(), qkv)[0] for out in (result, reference)]
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=0)


def test_grouping_pads_little_and_keeps_every_token() -> None:
    cu_seqlens = torch.tensor([0, *torch.tensor(MIXED).cumsum(0).tolist()], dtype=torch.int32)
    layout = Layout(cu_seqlens, max(MIXED), sum(MIXED))
    grouped, whole = layout.grid, layout._whole()
    assert [(group.rows, group.length) for group in grouped.groups] == [(3, 40), (1, 20), (4, 4)]
    for grid in (grouped, whole):
        assert grid.source[grid.places].tolist() == list(range(sum(MIXED)))
        assert sum(group.rows * group.length for group in grid.groups) == len(grid.source)
        masks = [group.mask(window) for group in grid.groups for window in (None, 1, 9)]
        assert all(mask.any(-1).all() for mask in masks if mask is not None)  # a softmax over nothing is NaN


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="flash attention needs a CUDA device")
@pytest.mark.parametrize("window", [None, 1, 4, 30, 100])
@pytest.mark.parametrize("lengths", [LENGTHS, [5, 5, 5], MIXED])
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_flash_equals_padded_attention(lengths: list[int], window: int | None, precision: torch.dtype) -> None:
    qkv = torch.randn(sum(lengths), 3, 2, 64, device="cuda", requires_grad=True)
    weight = torch.randn(sum(lengths), 128, device="cuda")
    cu_seqlens = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32, device="cuda")
    layout = Layout(cu_seqlens, max(lengths), sum(lengths))
    assert _flash_applies(qkv.to(precision))
    assert not _flash_applies(qkv)
    results = []
    for source in (qkv, qkv.to(precision)):
        states = attend(source, layout, window)
        results.append((states.float(), torch.autograd.grad((states.float() * weight).sum(), qkv)[0]))
    for reference, half in zip(*results, strict=True):
        assert (half - reference).norm() <= 2e-2 * reference.norm()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own look at it
@pytest.mark.parametrize(("family", "windows"), [("bert", [[-1, -1]]), ("modernbert", [[-1, -1], [4, 4], [-1, -1]])])
def test_with_flash_a_layer_is_one_graph_for_all_batches_of_a_size(
    family: str, windows: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced without a GPU and run on shapes alone. ModernBERT has three kinds of layer: the first, the local, the global."""
    monkeypatch.setattr("tofro.encoders.attention._flash_applies", lambda qkv: True)
    traced: list[torch.fx.GraphModule] = []

    def shapes_alone(graph: torch.fx.GraphModule, example: list[torch.Tensor]) -> Callable[..., tuple[torch.Tensor, ...]]:
        traced.append(graph)
        outputs = next(node for node in graph.graph.nodes if node.op == "output").args[0]
        return lambda *_: tuple(torch.zeros(output.meta["example_value"].shape) for output in outputs)

    torch.compiler.reset()
    model = build_model(dataclasses.replace(SMALL, family=family, layers=6, local_window=8), VOCABULARY, ())
    for layer in model.encoder.layers:
        layer.compile(dynamic=False, fullgraph=True, backend=shapes_alone)
    with torch.no_grad():
        for lengths in ([40, 30, 20, 10], [39, 31, 15, 15], [38, 21, 21, 20]):
            model.encoder(fill(make_batch(lengths)))
    calls = [node.args for graph in traced for node in graph.graph.nodes if "varlen" in str(node.target)]
    assert [call[9] for call in calls] == windows  # a window of 8 reaches 4 to each side, -1 is without end
    assert len(traced) == len(windows)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="compiled flash attention needs a CUDA device")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own look at it
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_compiled_flash_equals_plain_fp32(family: str) -> None:
    """On a GPU attention is part of a layer's graph, without a break, and every batch of a size runs the same graph."""
    settings = dataclasses.replace(SMALL, width=128, heads=2, family=family, local_window=8)
    model = build_model(settings, VOCABULARY, ())
    randomise(model)
    model.cuda()
    model.encoder.compile_layers()
    counters = torch._dynamo.utils.counters
    counters.clear()
    graphs = []
    for seed in range(3):
        batch = make_batch(MIXED, seed=seed).to("cuda")
        outcomes = []
        for each, half in ((batch, False), (fill(batch), True)):
            model.zero_grad()
            with torch.autocast("cuda", torch.bfloat16, enabled=half):
                states = model.encoder(each)[: batch.length].float()
            (states * torch.arange(128, device="cuda")).sum().backward()
            outcomes.append([states, torch.cat([parameter.grad.flatten() for parameter in model.encoder.parameters()])])
        for reference, near in zip(*outcomes, strict=True):
            assert (near - reference).norm() <= 2e-2 * reference.norm()
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[-1] == (1 if family == "bert" else 2)  # ModernBERT: the first layer, and the local ones
    assert not counters["graph_break"]


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_bf16_stays_near_fp32(family: str) -> None:
    """States, logits and the whole gradient, as mixed precision on a CPU computes them (contract 1)."""
    settings = dataclasses.replace(SMALL, family=family, local_window=8, head_pooling="mean")
    model, batch, outcomes = build_model(settings, VOCABULARY, classes=3), make_batch(MIXED), []
    randomise(model)
    for half in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            states = model.encoder(batch)
            said = [states, model.mlm_logits(states, batch.masked), model.task_logits(states, batch)]
            loss = F.cross_entropy(said[1].float(), batch.tokens[batch.masked])
        loss.backward()
        assert (said[1].dtype == torch.bfloat16) is half
        gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
        outcomes.append([*said, gradient])
    for reference, near in zip(*outcomes, strict=True):
        assert (near.float() - reference).norm() <= 2e-2 * reference.norm()


def test_packed_equals_padded(model: Model) -> None:
    batch = make_batch(LENGTHS)
    longest, size = batch.max_length, batch.size
    mask = torch.arange(longest)[None] < batch.cu_seqlens.diff()[:, None]
    grid = {name: torch.zeros(size, longest, dtype=torch.int64) for name in ("tokens", "positions", "segments")}
    for name, values in grid.items():
        values[mask] = getattr(batch, name)
    encoder = model.encoder
    states = encoder.embeddings.norm(
        encoder.embeddings.tokens(grid["tokens"])
        + encoder.embeddings.segments(grid["segments"])
        + encoder.embeddings.positions(grid["positions"])
    )
    for layer in encoder.layers:
        query, key, value = layer.attention.qkv(states).view(size, longest, 3, SMALL.heads, -1).unbind(2)
        scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(SMALL.width / SMALL.heads)
        weights = scores.masked_fill(~mask[:, None, None], -torch.inf).softmax(-1)
        mixed = torch.einsum("bhqk,bkhd->bqhd", weights, value).flatten(2)
        states = layer.attention.norm(states + layer.attention.output(mixed))
        inner = F.gelu(layer.feed_forward.up(states))
        states = layer.feed_forward.norm(states + layer.feed_forward.down(inner))
    torch.testing.assert_close(encoder(batch), unpad(states, batch), atol=1e-5, rtol=0)


def test_a_sequence_does_not_see_its_neighbours(model: Model) -> None:
    batch = make_batch(LENGTHS)
    states = model.encoder(batch).split(LENGTHS)
    for index, expected in enumerate(states):
        torch.testing.assert_close(model.encoder(alone(batch, index)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
@pytest.mark.parametrize("lengths", [LENGTHS, [16, 16, 16]])
def test_filling_changes_no_result_and_no_gradient(family: str, lengths: list[int]) -> None:
    model = build_model(dataclasses.replace(SMALL, family=family, head_pooling="mean"), VOCABULARY, classes=3)
    randomise(model)
    batch = dataclasses.replace(make_batch(lengths), mask_targets=torch.arange(len(range(0, sum(lengths), 5))))
    filled, outcomes = fill(batch), []
    assert filled.fillers
    for each in (batch, filled):
        model.zero_grad()
        states = model.encoder(each)
        vectors = [pool(states, each, "mean"), pool(states, each, "cls"), model.task_logits(states, each)]
        loss = mlm_loss(model.mlm_logits(states, each.masked), each.mask_targets, 7)
        (loss + sum(vector.square().sum() for vector in vectors)).backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        outcomes.append([states[: each.length], *vectors, loss, *(gradient.clone() for gradient in gradients)])
    for plain, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(other, plain, atol=1e-5, rtol=1e-5)


def test_all_layers_end_with_the_last(model: Model) -> None:
    batch = make_batch(LENGTHS)
    every = model.encoder(batch, layers="all")
    assert len(every) == SMALL.layers + 1
    assert torch.equal(every[-1], model.encoder(batch))


def test_dropout_acts_in_training_only_and_can_be_set(model: Model) -> None:
    batch = make_batch(LENGTHS)
    plain = model.encoder(batch)
    model.dropout = 0.5
    assert not torch.equal(model.encoder(batch), plain)
    assert torch.equal(model.eval().encoder(batch), plain)
    assert not torch.equal(model.train().encoder(batch), model.encoder(batch))


class Held(torch.autograd.graph.saved_tensors_hooks):
    """Counts the numbers that a graph keeps for its backward pass, parameters among them."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        super().__init__(self._note, lambda tensor: tensor)

    def _note(self, tensor: torch.Tensor) -> torch.Tensor:
        self.sizes[tensor.data_ptr()] = tensor.numel()
        return tensor

    @property
    def numbers(self) -> int:
        return sum(self.sizes.values())


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_checkpointing_keeps_little_and_changes_no_gradient(family: str) -> None:
    model = build_model(dataclasses.replace(SMALL, family=family), VOCABULARY, ("mlm",), dropout=0.3)
    randomise(model)
    batch, kept, gradients = make_batch(LENGTHS), [], []
    for checkpointing in (False, True):
        model.encoder.checkpointing = checkpointing
        model.zero_grad()
        torch.manual_seed(5)
        held = Held()
        with held:
            states = model.encoder(batch)
        torch.rand(3)  # the generator has moved on when the backward pass computes again
        (states * torch.arange(SMALL.width)).sum().backward()
        kept.append(held.numbers)
        gradients.append([parameter.grad.clone() for parameter in model.encoder.parameters()])
    assert kept[1] < kept[0] / 3
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))
    with torch.no_grad():
        model.eval()
        assert not model.encoder(batch).requires_grad


def test_weights_are_a_function_of_the_seed() -> None:
    state = torch.random.get_rng_state()
    first = build_model(SMALL, VOCABULARY, seed=3).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)  # neither reads nor moves the global generator
    torch.manual_seed(99)
    second = build_model(SMALL, VOCABULARY, heads=("mlm",), seed=3, classes=4).state_dict()
    other = build_model(SMALL, VOCABULARY, seed=4).state_dict()
    shared = first.keys() & second.keys()
    assert any(name.startswith("heads.mlm") for name in shared)
    assert all(torch.equal(first[name], second[name]) for name in shared)
    assert not torch.equal(first["encoder.embeddings.tokens.weight"], other["encoder.embeddings.tokens.weight"])


def test_initial_weights_are_berts() -> None:
    settings = EncoderSettings(layers=2, width=128, heads=2, intermediate=512)
    model = build_model(settings, VOCABULARY, classes=3)
    for name, tensor in model.state_dict().items():
        if name.endswith("bias"):
            assert not tensor.any(), name
        elif ".norm." in name:
            assert (tensor == 1).all(), name
        elif tensor.numel() > 10_000:
            assert abs(tensor.std() - 0.02) < 5e-4, name
            assert abs(tensor.mean()) < 5e-4, name
    assert not model.encoder.embeddings.tokens.weight[0].any()
    qkv = model.encoder.layers[0].attention.qkv.weight
    assert not torch.equal(qkv, model.encoder.layers[1].attention.qkv.weight)


def test_copies_are_independent(model: Model) -> None:
    batch = make_batch(LENGTHS)
    twin = copy.deepcopy(model)
    before = model.mlm_logits(model.encoder(batch), batch.masked)
    assert torch.equal(twin.mlm_logits(twin.encoder(batch), batch.masked), before)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(model.mlm_logits(model.encoder(batch), batch.masked), before)


def test_mlm_head_is_tied_to_the_embedding(model: Model) -> None:
    batch = make_batch(LENGTHS)
    logits = model.mlm_logits(model.encoder(batch).detach(), batch.masked)
    assert logits.shape == (len(batch.masked), VOCABULARY)
    logits.sum().backward()
    assert model.encoder.embeddings.tokens.weight.grad.abs().sum() > 0


def test_task_heads_have_their_shapes_and_replace_one_another(model: Model) -> None:
    batch = make_batch(LENGTHS)
    states = model.encoder(batch)
    assert model.task_logits(states, batch).shape == (4, 3)
    pooler = model.heads["pooler"].dense.weight.clone()
    model.add_task_head(1, regression=True, seed=5)
    assert model.task_logits(states, batch).shape == (4,)
    assert torch.equal(model.heads["pooler"].dense.weight, pooler)
    bare = build_model(SMALL, VOCABULARY, heads=())
    bare.add_task_head(3, seed=7)
    expected = build_model(SMALL, VOCABULARY, heads=(), seed=7, classes=3).heads.state_dict()
    assert bare.heads.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in bare.heads.state_dict().items())


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match=r"encoder\.heads"):
        build_model(EncoderSettings(width=64, heads=5), VOCABULARY)


@pytest.mark.parametrize("lengths", [LENGTHS, [6, 6]])
def test_pooling_equals_a_loop(lengths: list[int]) -> None:
    batch = make_batch(lengths)
    states = torch.randn(sum(lengths), 8)
    parts = states.split(lengths)
    torch.testing.assert_close(pool(states, batch, "mean"), torch.stack([part.mean(0) for part in parts]))
    assert torch.equal(pool(states, batch, "cls"), torch.stack([part[0] for part in parts]))
    with pytest.raises(ValueError, match="max"):
        pool(states, batch, "max")


def test_mean_pooling_sums_in_fp32() -> None:
    batch = make_batch([4000, 3000])
    states = torch.full((7000, 4), 1.01, dtype=torch.bfloat16)
    pooled = pool(states, batch)
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, torch.full((2, 4), float(states[0, 0])), atol=1e-4, rtol=0)


TUNINGS = [
    (train_all, TuningSettings(), 0),
    (train_bias, TuningSettings(), 0),  # the embeddings' norm has a bias
    (train_norm, TuningSettings(), 0),
    (train_lora, LoraSettings(rank=2), 1),
    (train_top_k, TopKSettings(k=1), 3),
    (train_head, TuningSettings(), 4),
]


@pytest.mark.parametrize(("tune", "settings", "depth"), TUNINGS)
def test_no_graph_below_the_lowest_trainable_layer(model: Model, tune: Any, settings: Any, depth: int) -> None:
    batch = make_batch(LENGTHS)
    with torch.no_grad():
        full = model.encoder(batch)
    tune(settings, model, 0)
    assert model.encoder.frozen_depth == depth
    recording: list[bool] = []
    for layer in model.encoder.layers:
        layer.register_forward_pre_hook(lambda *_: recording.append(torch.is_grad_enabled()))
    every = model.encoder(batch, layers="all")
    assert recording == [index >= depth for index in range(1, SMALL.layers + 1)]
    assert [states.requires_grad for states in every] == [index >= depth for index in range(SMALL.layers + 1)]
    assert torch.equal(every[-1], full)


def test_a_frozen_encoder_saves_no_activations(model: Model) -> None:
    batch, saved = make_batch(LENGTHS), []
    train_head(TuningSettings(), model, 0)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        states = model.encoder(batch)
        assert not saved
        model.task_logits(states, batch)
    assert saved


def test_no_grad_outside_stays_no_grad(model: Model) -> None:
    with torch.no_grad():
        assert not model.encoder(make_batch(LENGTHS)).requires_grad
