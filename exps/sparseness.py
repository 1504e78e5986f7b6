"""What the keys of sparseness leave: winners in the layers, and weights of their units."""

from __future__ import annotations

from dataclasses import dataclass

from exps.experiment import Experiment
from exps.facts import Findings, Layer, Shape


def no_winner(exp: Experiment) -> Findings:
    """Why nothing would win in a layer, in training or in evaluation."""
    for w in _winners(exp, exp):
        among = f"among {w.n} {w.what}"
        if w.training < 1:
            yield w.keys, f"{w.keys[0]} = {w.asked:g} leaves no winner {among}"
        elif w.evaluation < 1:
            yield (
                ("k_inference_factor", *w.keys),
                f"k_inference_factor = {exp.k_inference_factor:g} leaves no winner {among} in "
                f"evaluation; in training {w.training} win",
            )


def winners_in_evaluation(exp: Experiment) -> Findings:
    """Where evaluation asks for more winners than units, or for as many as training."""
    exp = exp.in_effect
    asks = f"k_inference_factor = {exp.k_inference_factor:g}"
    winners = _winners(exp, exp.part)
    for w in winners:
        if w.evaluation > w.n:
            yield (
                ("k_inference_factor", *w.keys),
                f"{asks} with {w.keys[0]} = {w.asked:g} asks for more winners than there are "
                f"{w.what} in evaluation, so all {w.n} win",
            )
    same = all(w.evaluation == w.training for w in winners)
    if winners and exp.k_inference_factor != 1 and same:
        yield (
            ("k_inference_factor", *winners[0].keys),
            f"{asks} changes nothing: {winners[0].training} {winners[0].what} win in evaluation as "
            "in training",
        )


def no_weight(exp: Experiment, layers: list[Layer]) -> Findings:
    """Why a unit of these layers would have no weight."""
    for keys, density, inputs in _masked(exp, layers):
        if round(min(inputs) * density) < 1:
            yield (
                keys,
                f"{keys[0]} = {density:g} leaves no weight for a unit of {min(inputs)} inputs;"
                f" choose at least {1 / min(inputs):.3g}",
            )


def nothing_masked(exp: Experiment, picture: Shape | None = None) -> Findings:
    """Where a density below 1 rounds to all weights."""
    layers = exp.in_effect.part.layers_for(picture) or []
    for keys, density, inputs in _masked(exp, layers):
        if density < 1 and all(round(n * density) == n for n in inputs):
            idle = ", so none can move" if keys[0].startswith("initial_density") else ""
            yield (
                keys,
                f"{keys[0]} = {density:g} leaves out no weight of a unit of {max(inputs)} "
                f"inputs{idle}",
            )


def thinned(exp: Experiment) -> Findings:
    """Where units of a part may have no weight: of the synapses of a unit, which of them come from
    units of its part is chance."""
    whole, part = exp.layers_for() or [], exp.part.layers_for() or []
    own = [few for few, all_ in zip(part, whole, strict=True) if few.inputs < all_.inputs]
    for keys, density, inputs in _masked(exp, own):
        left = min(inputs) * density
        if left < 5 and density < 1:  # one unit in 150 has none of 5 in the mean
            yield (
                (keys[0], "context", "methods"),
                f"{keys[0]} = {density:g} leaves a unit of a task's part of the network {left:.2g}"
                f" of {min(inputs)} weights in the mean, and some units none; choose more",
            )


@dataclass(frozen=True)
class _Winners:
    """How many of the `n` units or channels of a layer win, as keys[0] asks."""

    keys: tuple[str, ...]
    asked: float
    n: int
    what: str
    training: int
    evaluation: int


def _winners(exp: Experiment, of: Experiment) -> list[_Winners]:
    """By the layers' own formulas; of the convolutions, for the one with the fewest channels. of:
    the experiment itself, or that of a part (`Experiment.part`)."""
    layers = of.layers_for()
    if not exp.sparsify or layers is None:
        return []
    found, factor = [], exp.k_inference_factor
    if exp.has_hidden:
        n, share = of.hidden_units, of.percent_on_fc
        k = round(n * share)
        keys = ("percent_on_fc", "hidden_units", "sparsify")
        found.append(_Winners(keys, exp.percent_on_fc, n, "units", k, int(k * factor)))
    if channels := [layer.units for layer in layers if layer.convolution]:
        n, share = min(channels), of.percent_on_conv
        k, in_evaluation = round(n * share), round(n * (share * factor))
        conv = ("percent_on_conv", "cnn", "model", "sparsify")
        found.append(_Winners(conv, exp.percent_on_conv, n, "channels", k, in_evaluation))
    return found


def _masked(exp: Experiment, layers: list[Layer]) -> list[tuple[tuple[str, ...], float, list[int]]]:
    """Of the layers that a density is for: the keys, it first, the density, and their inputs."""
    shape = ("cnn", "model", "benchmark", "sparsify")
    fc, conv = exp.densities
    kinds = ((fc, "hidden_units", "hidden_layers", *shape), (conv, *shape))
    by_kind = [[one.inputs for one in layers if one.convolution == conv] for conv in (False, True)]
    found = [
        (keys, float(getattr(exp, keys[0])), inputs)
        for keys, inputs in zip(kinds, by_kind, strict=True)
    ]
    return [(keys, density, inputs) for keys, density, inputs in found if inputs and exp.sparsify]
