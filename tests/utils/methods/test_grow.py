"""Synapses that grow or move: where, how many, and when."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from models import make_model
from models.synapses import attach, beside
from sparse_syn import SparseWeights, SparseWeights2d
from utils.engines.batch import Part
from utils.engines.compiled import layers as compiled
from utils.live.progress import Progress
from utils.methods import changing, rewire
from utils.methods import grow as growth
from utils.methods.base import Moment, draws
from utils.methods.changing import DRAW, Synapses, blocks, layers, scores
from utils.methods.grow import grow, recruit
from utils.methods.old_synapses import ages
from utils.methods.rewire import move
from utils.training.loop import run_stream
from utils.training.record import empty_record

GROW: dict[str, Any] = {"dynamic": "grow", "initial_density_fc": 0.1, "grow_per_task": 0.1}
CNN: dict[str, Any] = {
    **{"model": "cnn", "channels": 8, "percent_on_conv": 0.5},
    "initial_density_conv": 0.2,
}
FRESH = {**GROW, "grow_units": "fresh", "max_density_fc": 0.3}  # half of the units a task


def test_every_unit_gets_as_many_where_the_score_is_highest() -> None:
    mask = torch.tensor([[False, True, True, True], [True, True, True, False]])
    score = torch.tensor([[9.0, 1.0, 3.0, 2.0], [1.0, 2.0, 3.0, 9.0]])
    assert grow(mask, score, count=1, most=4) == 2
    assert mask.tolist() == [[False, True, False, True], [True, True, False, False]]
    assert grow(mask, score, count=2, most=3) == 2  # only one each is left
    assert grow(mask, score, count=2, most=3) == 0
    assert (~mask).sum(1).tolist() == [3, 3]
    uneven = torch.tensor([[False, False, True, True], [True, True, True, True]])
    assert grow(uneven, score, count=2, most=3) == 3  # the first has room for one
    assert uneven.tolist() == [[False, False, False, True], [True, True, False, False]]


def test_the_weakest_move_and_old_ones_stay() -> None:
    layer = SparseWeights(nn.Linear(4, 2), weight_sparsity=0.5)
    layer.zero_mask.copy_(torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0]]).bool())
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.1, -2.0, 0, 0], [0, 0, 0.3, -0.2]]))
    score = torch.tensor([[0.0, 0.0, 5.0, 1.0], [2.0, 9.0, 0.0, 0.0]])
    with Synapses.of(layer) as its:
        assert move(its, score, share=0.5) == 2
    assert layer.zero_mask.tolist() == [[True, False, False, True], [True, False, False, True]]
    attach(layer, "used")
    ages(layer)[layer.weight].copy_(~layer.zero_mask)
    with Synapses.of(layer) as its:
        assert move(its, score, share=0.5) == 0


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_synapses_of_a_convolution(form: torch.memory_format) -> None:
    """What is changed there is changed in the layer, in whatever order its memory is."""
    layer = SparseWeights2d(nn.Conv2d(3, 4, 5), weight_sparsity=0.2).to(memory_format=form)
    before = layer.zero_mask.clone()
    with Synapses.of(layer) as its:
        assert its.zero_mask.shape == its.weight.shape == (4, 75)
        its.zero_mask[1, 30:60] = False
        its.weight[1, 30:60] = 7.0
    changed = (layer.weight == 7).flatten(1)
    assert changed.sum() == 30 and changed[1, 30:60].all()
    assert (layer.zero_mask.flatten(1)[1, 30:60] == 0).all()
    assert layer.zero_mask[[0, 2, 3]].equal(before[[0, 2, 3]])


@pytest.mark.parametrize("back", [True, False])
def test_a_synapse_that_was_dropped_may_grow_back_with_rigl(back: bool) -> None:
    """The weakest has by far the largest gradient; SET takes places that were free before."""
    layer = SparseWeights(nn.Linear(6, 1), weight_sparsity=0.5)
    layer.zero_mask.copy_(torch.tensor([[0, 0, 0, 1, 1, 1]]).bool())
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.9, 0.8, 0.01, 0, 0, 0]]))
    score = torch.tensor([[0.0, 0.0, 1.0, 0.1, 0.2, 0.3]])
    with Synapses.of(layer) as its:
        assert move(its, score, 1 / 3, back=back) == (not back)
    assert layer.zero_mask.int().tolist() == [[0, 0, 0, 1, 1, 1] if back else [0, 0, 1, 1, 1, 0]]
    assert layer.weight[0, 2].item() == pytest.approx(0.01)


@pytest.mark.parametrize("engine", ["reference", "dense", "sparse"])
def test_what_grows_back_keeps_weight_and_momentum(
    experiment: Callable, stream_of: Callable, staged: Callable, engine: str
) -> None:
    """All that RigL drops is where the gradient is largest: the run is as without it."""
    keys = {"dynamic": "rigl", "mb_size": 2, "initial_density_fc": 0.1, "dropout": 0.0}
    found = []
    for moves in (True, False):
        exp = experiment(**keys, engine=engine)
        stream = stream_of(exp, train=260)
        some = staged(exp, stream)
        with pytest.MonkeyPatch.context() as patch:
            if moves:
                there = [(~layer.zero_mask).float() for layer in layers(some.engine.model, exp)]
                patch.setattr(changing, "scores", lambda *_, there=there, **__: there)
            else:
                patch.setattr(rewire.Method, "due", lambda *_: 0.0)
            some.train(0, 2)
        found.append(some.engine.model.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize(
    ("keys", "due"),
    [
        ({"dynamic": "set"}, {100: 0.3, 200: 0.3, 300: 0.3}),
        ({"dynamic": "rigl"}, {100: 0.225, 200: 0.075}),
    ],
)
def test_when_synapses_move(
    experiment: Callable, keys: dict[str, Any], due: dict[int, float]
) -> None:
    method = rewire.Method(experiment(**keys), None)
    layer = SparseWeights(nn.Linear(100, 100), weight_sparsity=0.1)
    found = {n: method.due(Moment(0, n, epoch=100, total=400), layer) for n in range(400)}
    assert {step: share for step, share in found.items() if share} == pytest.approx(due)


@pytest.mark.parametrize(
    ("every", "due"),
    [(0, {0: 7}), (100, {0: 2, 100: 3, 200: 2}), (299, {0: 4, 299: 3}), (400, {0: 7})],
)
@pytest.mark.parametrize("keys", [GROW, FRESH])
def test_when_synapses_grow(
    experiment: Callable, keys: dict[str, Any], every: int, due: dict[int, int]
) -> None:
    """7 for each of 100 inputs or of 100 units, until three quarters of 400 steps, whatever the
    portions round to."""
    share = 0.07 if keys is GROW else 0.07 * (0.3 - 0.1)
    exp = experiment(**keys | {"grow_per_task": share, "grow_every": every})
    layer = SparseWeights(nn.Linear(100, 100), weight_sparsity=0.1)
    method = growth.Method(exp, None)
    found = {n: method.due(Moment(0, n, epoch=100, total=400), layer) for n in range(400)}
    assert {step: count for step, count in found.items() if count} == due


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("kind", ["gradient", "coactivation", "random"])
def test_scores(experiment: Callable, kind: str, fresh: bool) -> None:
    """By formula: of a network with one layer, of whose outputs the first seven count. Fresh units
    count as on for every picture."""
    torch.manual_seed(0)
    exp = experiment(**GROW)
    model = make_model(exp, (1, 28, 28), [10]).eval()
    x, labels, part = torch.rand(30, 1, 28, 28), torch.randint(7, (30,)), Part(None, 0, outputs=7)
    [score] = scores(kind, model, blocks(model, exp), x, labels, part, fresh=fresh)
    won = model.blocks[0].activation(model.blocks[0].linear(x.flatten(1))).detach()
    on = torch.ones_like(won) if fresh else (won != 0).float()
    if kind == "gradient":
        error = torch.softmax(model.heads[0](won)[:, :7], 1) - one_hot(labels, 7)
        expected = ((error @ model.heads[0].weight[:7] * on).t() @ x.flatten(1)).abs().detach()
    else:
        expected = on.t() @ x.flatten(1) * (kind == "coactivation")
    expected /= expected.max().clamp(min=1e-30)
    torch.testing.assert_close(score, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("keys", [{"hidden_layers": 2}, CNN])
def test_the_gradient_of_a_masked_weight_is_that_of_one_without_a_mask(
    experiment: Callable, keys: dict[str, Any]
) -> None:
    """In all layers of a network, by autograd."""
    torch.manual_seed(0)
    exp = experiment(**GROW | keys)
    model = make_model(exp, (1, 28, 28), [10]).eval()
    x, labels = torch.rand(30, 1, 28, 28), torch.randint(10, (30,))
    found = scores("gradient", model, blocks(model, exp), x, labels, Part(None, 0))
    assert len(found) == (3 if keys is CNN else 2)
    weights = [layer.weight for layer in layers(model, exp)]
    for layer in layers(model, exp):
        layer.zero_mask.fill_(False)
    gradients = torch.autograd.grad(cross_entropy(model(x), labels), weights)
    for score, gradient in zip(found, gradients, strict=True):
        expected = gradient.flatten(1).abs() / gradient.abs().max()
        torch.testing.assert_close(score, expected, rtol=0, atol=1e-5)


def recruit_in(
    layer: SparseWeights, duty_cycle: torch.Tensor, score: torch.Tensor, count: int, most: int
) -> list[int]:
    with Synapses.of(layer) as its:
        return recruit(its, duty_cycle, score, count, most, draws(DRAW, 0)).tolist()


def test_the_units_that_win_least_are_wired_up() -> None:
    """Only they change; each keeps what it has, and gets the rest where the score is."""
    layer = SparseWeights(nn.Linear(784, 64), weight_sparsity=0.1)
    before, weight = layer.zero_mask.clone(), layer.weight.detach().clone()
    duty_cycle = torch.arange(64.0).flip(0)
    score = torch.zeros(64, 784)
    score[:, :400] = 1
    recruited = partial(recruit_in, layer, duty_cycle, score)
    assert recruited(5, 235) == [63, 62, 61, 60, 59]
    new = before & ~layer.zero_mask
    assert new[:59].sum() == 0 and new[:, 400:].sum() == 0
    assert (~layer.zero_mask[59:]).sum(1).tolist() == [235] * 5
    assert torch.equal(layer.weight[~new], weight[~new])
    drawn = layer.weight.detach()[new] * 235**0.5
    assert drawn.min() >= 0 and drawn.max() <= 1 and drawn.mean() == pytest.approx(0.5, abs=0.05)
    assert recruited(100, 235) == list(range(58, -1, -1))
    assert recruited(5, 235) == []  # none is left


def test_places_are_drawn_in_proportion_to_the_score() -> None:
    layer = SparseWeights(nn.Linear(784, 8000), weight_sparsity=0.1)
    layer.zero_mask.fill_(True)
    score = torch.zeros(8000, 784)
    score[:, :3] = torch.tensor([1.0, 0.6, 0.4])
    recruit_in(layer, torch.zeros(8000), score, 8000, 1)
    drawn = (~layer.zero_mask).float().mean(0)
    torch.testing.assert_close(drawn[:3], torch.tensor([0.5, 0.3, 0.2]), rtol=0, atol=0.02)


@pytest.mark.parametrize("engine", ["reference", "dense", "sparse"])
@pytest.mark.parametrize("keys", [{}, {"hidden_layers": 2, "grow_every": 3}])
def test_every_task_has_fresh_units(
    experiment: Callable, stream_of: Callable, trained: Callable, engine: str, keys: dict[str, Any]
) -> None:
    """Half of the units a task; frozen ones of the task before stay to the bit; with all engines
    alike, and each learns the second task."""
    slow = {"old_synapse_lr": 0.0, "weight_decay": 0.0, "boost_strength": 0.0}
    exp = experiment(**FRESH, **slow, **keys, engine=engine)
    record, engine_then = trained(exp, stream_of(exp, train=960, test=200))
    assert [int(n) for n in record.stats()["synapses"][:, 0]] == [32 * (78 + 235), 64 * 235]
    for layer in layers(engine_then.model, exp):
        inputs = layer.zero_mask.shape[1]
        assert ((~layer.zero_mask).sum(1) == round(0.3 * inputs)).all()
        assert (layer.weight[layer.zero_mask] == 0).all()
    assert record.accs[1, 1] > 0.4


@pytest.mark.parametrize("keys", [{}, {"initial_density_conv": 0.2, "max_density_conv": 0.6}])
def test_fresh_units_and_channels_of_a_cnn(
    experiment: Callable, stream_of: Callable, trained: Callable, keys: dict[str, Any]
) -> None:
    """Half of the hidden units a task, and a quarter of the channels where these grow too."""
    cnn = CNN if keys else {"model": "cnn", "percent_on_conv": 0.1}
    exp = experiment(**FRESH | cnn | keys)
    record, engine = trained(exp, stream_of(exp, train=640))
    layer, *convolutions = layers(engine.model, exp)
    assert ((~layer.zero_mask).sum(1) == round(0.3 * layer.zero_mask.shape[1])).all()
    assert len(convolutions) == 2 * bool(keys)
    for layer in convolutions:
        has, inputs = (~layer.zero_mask).flatten(1).sum(1), layer.zero_mask[0].numel()
        assert sorted(has.unique().tolist()) == [round(0.2 * inputs), round(0.6 * inputs)]
        assert (has == round(0.6 * inputs)).float().mean() == 0.5
        assert (layer.weight[layer.zero_mask] == 0).all()
    assert keys or record.accs[1, 1] > 0.4


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("keys", [{}, {"hidden_layers": 2}])
def test_all_engines_wire_up_the_same(
    experiment: Callable,
    stream_of: Callable,
    staged: Callable,
    precision: str,
    keys: dict[str, Any],
) -> None:
    """The sparse engine, whose first layer in bf16 is a lazy matrix, takes over new weights."""
    settings = {**FRESH, **keys, "weight_decay": 0.0, "lr": 1e-9}
    exp = experiment(**settings, engine="sparse", precision=precision)
    stream = stream_of(exp)
    some = staged(exp, stream)
    plain = staged(experiment(**settings, engine="reference"), stream)
    for one in (some, plain):
        one.begin(0)
        one.engine.begin_epoch(8)
        one.step(stream.tasks[0].train.take(slice(32)))
    for one, two in zip(
        layers(some.engine.model, exp), layers(plain.engine.model, exp), strict=True
    ):
        assert torch.equal(one.zero_mask, two.zero_mask)
        torch.testing.assert_close(one.weight, two.weight, rtol=0, atol=1e-6)


@pytest.mark.parametrize("engine", ["reference", "dense", "sparse"])
@pytest.mark.parametrize(
    "keys",
    [
        FRESH | {"grow_every": 3},
        GROW | {"grow_every": 3},
        {"dynamic": "rigl", "mb_size": 2, "initial_density_fc": 0.1},
        {"dynamic": "set", "initial_density_fc": 0.1, "train_ep_inc": 2},
        GROW | CNN | {"grow_every": 3},
        FRESH | CNN | {"grow_every": 3, "max_density_conv": 0.4},
        {"dynamic": "set", "initial_density_fc": 0.1, "train_ep_inc": 2, **CNN},
    ],
)
def test_a_run_is_continued_exactly_while_synapses_change(
    experiment: Callable, stream_of: Callable, staged: Callable, engine: str, keys: dict[str, Any]
) -> None:
    """Stopped in the second task, before synapses change again."""
    if engine == "sparse" and keys.get("model") == "cnn":
        pytest.skip("the sparse engine is for MLPs")
    exp = experiment(**keys, engine=engine, old_synapse_lr=0.3, weight_decay=0.0, dropout=0.0)
    stream = stream_of(exp, train=12 * exp.mb_size if exp.dynamic != "rigl" else 260)
    first, second = staged(exp, stream), staged(exp, stream)
    steps = len(stream.tasks[0].train) // exp.mb_size
    half = steps // 3 if exp.dynamic != "rigl" else 90

    def train(some: Any, start: int, end: int) -> None:
        for i in range(start * exp.mb_size, end * exp.mb_size, exp.mb_size):
            some.step(stream.tasks[some.task].train.take(slice(i, i + exp.mb_size)))

    first.train(0, exp.mb_size)
    first.begin(1)
    first.engine.begin_epoch(steps)
    train(first, 0, half)
    state = copy.deepcopy(first.engine.state_dict())
    second.task, second.done = first.task, first.done
    for method, other in zip(second.methods, first.methods, strict=True):
        method.restore(copy.deepcopy(other.state()))
    second.engine.begin_epoch(steps)
    second.engine.load_state_dict(state)
    for method in second.methods:
        method.resume(second.engine)
    before = [layer.zero_mask.clone() for layer in layers(first.engine.model, exp)]
    for some in (first, second):
        train(some, half, steps)
        some.engine.end_epoch()
        some.engine.begin_epoch(steps)
        train(some, 0, 2)
    changed = [layer.zero_mask for layer in layers(first.engine.model, exp)]
    assert not all(map(torch.equal, before, changed))
    one, two = first.engine.model.state_dict(), second.engine.model.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("engine", ["reference", "dense", "large"])
@pytest.mark.parametrize(
    "held",
    [
        {"methods": ("ewc",), "ewc_strength": 10.0},
        {"methods": ("si",), "si_strength": 0.1},
        {"methods": ("mas",), "mas_strength": 0.01},
        {"old_synapse_lr": 0.3, "old_synapse_rule": "importance"},
    ],
)
def test_with_a_synapse_goes_all_that_belongs_to_it(
    experiment: Callable,
    stream_of: Callable,
    staged: Callable,
    engine: str,
    held: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weight, momentum, age, and the pull to where it was: some steps after synapses moved, and
    when the task has ended. large: in the compiled layers of large networks."""
    monkeypatch.setattr(compiled, "LARGE", 0 if engine == "large" else 2**40)
    keys = {"dynamic": "rigl", "mb_size": 2, "initial_density_fc": 0.1, "weight_decay": 0.0}
    exp = experiment(**keys, **held, engine="reference" if engine == "reference" else "dense")
    stream = stream_of(exp, train=260)
    some = staged(exp, stream)
    some.train(0, 2)
    [layer] = layers(some.engine.model, exp)
    before = layer.zero_mask.clone()
    some.begin(1)
    some.engine.begin_epoch(130)
    for start in (0, 230):  # synapses move before step 100, of 97 to move in this task
        for i in range(start, 230 if start == 0 else 260, 2):
            some.step(stream.tasks[1].train.take(slice(i, i + 2)))
        if start:
            some.end()
        assert (layer.zero_mask & ~before).any()
        attached = beside(layer, "weight").values()
        assert all(its.any() for its in attached)
        momentum = some.engine.optimizer.state(layer.weight)["momentum"]
        for its in (some.engine.model and layer.weight, momentum, *attached):
            assert not its[layer.zero_mask].any()


@pytest.mark.parametrize("engine", ["reference", "dense", "sparse"])
@pytest.mark.parametrize(
    "keys",
    [
        GROW,
        {**GROW, "grow_by": "coactivation", "grow_every": 3, "hidden_layers": 2},
        {"dynamic": "set", "train_ep": 3, "initial_density_fc": 0.1},
        {"dynamic": "rigl", "mb_size": 2, "initial_density_fc": 0.1},
        {**GROW, **CNN},
        {"dynamic": "set", "train_ep": 3, "initial_density_fc": 0.1, **CNN},
    ],
)
def test_engines_follow(
    experiment: Callable, stream_of: Callable, trained: Callable, engine: str, keys: dict[str, Any]
) -> None:
    """Masked weights are zero, grown ones are trained, density is what it should be."""
    if engine == "sparse" and keys.get("model") == "cnn":
        pytest.skip("the sparse engine is for MLPs")
    exp = experiment(**keys, engine=engine)
    stream = stream_of(exp, train=320)
    _, some = trained(exp, stream)
    torch.manual_seed(exp.seed)
    before = layers(make_model(exp, stream.input_shape, stream.head_sizes), exp)
    assert len(before) == {"mlp": exp.hidden_layers, "cnn": 3}[exp.model]
    for layer, then in zip(layers(some.model, exp), before, strict=True):
        inputs = layer.zero_mask[0].numel()
        has = (~layer.zero_mask).flatten(1).sum(1)
        assert (layer.weight[layer.zero_mask] == 0).all()
        new = ~layer.zero_mask & then.zero_mask
        assert new.any() and (layer.weight[new] != 0).float().mean() > 0.2
        if exp.dynamic == "grow":
            whole = (0.4 if layer.zero_mask.dim() == 4 else 0.3) * inputs
            assert (has == has[0]).all() and has[0] == pytest.approx(whole, abs=6)
        else:
            assert has.sum() == (~then.zero_mask).sum()


def test_what_is_recorded(experiment: Callable, stream_of: Callable, built: Callable) -> None:
    exp = experiment(**GROW, old_synapse_lr=0.0, old_synapse_rule="used", weight_decay=0.0)
    stream = stream_of(exp, train=640)
    engine, methods, order = built(exp, stream)
    record, found = empty_record(exp, stream, engine.model), []

    def keep(done: bool) -> None:
        if done:
            model = engine.model
            found.append(ages(model)[model.hidden[0].linear.weight].clone())

    with Progress(2, quiet=True) as progress:
        run_stream(exp, stream, engine, methods, order, record, progress, keep=keep)
    stats, [used] = record.stats(), found  # after the first task
    assert stats["synapses"].tolist() == [[64 * 156, 640], [64 * 234, 640]]
    assert stats["synapses_by_birth"][:, 0].tolist() == [
        [64 * 78, 64 * 78, 0],
        [64 * 78, 64 * 78, 64 * 78],
    ]
    assert stats["frozen_synapses"][0].tolist() == [0, 0]
    assert stats["frozen_synapses"][1, 0] == pytest.approx(float(used.sum()) / (64 * 234))
    assert (used[engine.model.hidden[0].linear.zero_mask] == 0).all()


def test_a_network_of_all_mechanisms(
    experiment: Callable, stream_of: Callable, trained: Callable
) -> None:
    """Contexts that share units, whose old synapses are frozen, and whose new ones grow."""
    exp = experiment(
        **GROW,
        context="prototype",
        context_units=16,
        context_overlap=0.5,
        old_synapse_lr=0.0,
        weight_decay=0.0,
        boost_strength=0.0,
    )
    record, engine = trained(exp, stream_of(exp, train=640, test=200))
    has = (~engine.model.hidden[0].linear.zero_mask).sum(1)
    assert sorted(has.unique().tolist()) == [78, 156, 234]  # in none, one, two contexts
    assert record.accs[1, 1] > 0.3
