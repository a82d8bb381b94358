"""Trained blocks that project on the class subspace and do nothing else, and a reference that knows the centres.

Every weight is the projection on the K - 1 centred class dimensions. Success is then a function of
s = sigma sqrt(K / (d (1 - c))) alone, simulated in K - 1 dimensions (docs/theory.md, sections 6.1 and 6.3).

Shape suffixes: R batches, N rows of a batch, K classes.
"""

import dataclasses
from collections.abc import Callable
from functools import cache

import numpy as np
from scipy.special import softmax

from study.recipes.contrastive.laws.class_space import (
    Shape,
    Success,
    projector,
    scale,
    shapes,
    simplex,
    success,
    success_of_affinities,
    views,
)
from study.recipes.contrastive.laws.kinds import trained_fusion
from study.recipes.contrastive.laws.law import Array, Law, Setting, frozen
from study.recipes.contrastive.laws.moments import crossing
from study.recipes.contrastive.laws.untrained import (
    LEAST_DIM,
    first_reason,
    outside_batch,
    outside_blocks,
    outside_cosine,
    outside_sigma,
    outside_views,
)

LEAST_CLASSES = 3
LEAST_ROWS = 3
MOST_BLOCKS = 3
MOST_ROWS = 800
# Of the runs that the laws were verified on: Adam's rates, the fewest steps; and what "about the judged size" may mean.
RATES = (0.003, 0.01)
LEAST_STEPS = 1_500
MOST_BATCH_RATIO = 2.0
TRAINED_BY = f"Adam at {RATES[0]:g} to {RATES[1]:g} with a cosine schedule for {LEAST_STEPS:,} steps or more"
_LOWEST, _HIGHEST = 0.05, 4.0
_NUM_GRID = 24


def outside_trained(setting: Setting, most_classes: int) -> str | None:
    """Why a setting is not that of the theory's trained blocks, or not one that was verified."""
    if setting.layer_norm:
        return "assumes blocks without layer normalisation"
    if setting.centred:
        return "assumes that the batch mean is kept, but it is removed"
    if (reason := outside_views(setting)) is not None:
        return reason
    if setting.num_classes is None or setting.dim is None or setting.batch is None:
        return None
    if not LEAST_CLASSES <= setting.num_classes <= most_classes:
        return f"was verified for {LEAST_CLASSES} to {most_classes} classes, but there are {setting.num_classes}"
    if setting.dim < max(LEAST_DIM, setting.num_classes):
        return f"needs at least {max(LEAST_DIM, setting.num_classes)} dimensions, but there are {setting.dim}"
    if (reason := outside_cosine(setting, -1 / (setting.num_classes - 1))) is not None:
        return reason
    if setting.batch > MOST_ROWS:
        return f"is simulated for batches of up to {MOST_ROWS} rows, but this one has {setting.batch:g}"
    return first_reason(
        outside_blocks(setting, 1, MOST_BLOCKS),
        outside_batch(setting, LEAST_ROWS),
        outside_sigma(setting),
        _outside_training(setting),
    )


def _outside_training(setting: Setting) -> str | None:
    """Why a run does not end where the laws' runs ended."""
    if setting.schedule == "constant":
        return "was verified with a cosine schedule, but the learning rate is constant"
    slowest, fastest = RATES
    if setting.learning_rate is not None and not slowest <= setting.learning_rate <= fastest:
        return f"was verified for learning rates of {slowest:g} to {fastest:g}, but it is {setting.learning_rate:g}"
    if (reason := outside_steps(setting, LEAST_STEPS)) is not None:
        return reason
    if setting.train_batch is None or setting.batch is None:
        return None
    if not 1 / MOST_BATCH_RATIO <= setting.train_batch / setting.batch <= MOST_BATCH_RATIO:
        return (
            f"assumes training at a batch of about the judged size, but they are {setting.train_batch:g} and "
            f"{setting.batch:g} rows"
        )
    return None


def outside_steps(setting: Setting, least: int) -> str | None:
    """Why training is too short to have ended."""
    if setting.steps is None or setting.steps >= least:
        return None
    return f"is for the end of training, verified from {least:,} steps on, but there are {setting.steps:,g}"


def weighted(setting: Setting, function: Callable[[Shape], float]) -> float:
    """A function of whole rows of a class, interpolated where a setting's are not whole."""
    return float(sum(share * function(shape) for shape, share in shapes(setting)))


@cache
def projected_threshold(shape: Shape, metric: str) -> float:
    """The s at which a metric of the projected block falls to one half; NaN where it does not."""
    weights = projector(shape)
    return _fall(lambda noise: getattr(success(shape, noise, weights), metric))


@cache
def bayes_threshold(shape: Shape, metric: str) -> float:
    """The same for :func:`bayes_success`."""
    return _fall(lambda noise: getattr(bayes_success(shape, noise), metric))


def _fall(function: Callable[[float], float]) -> float:
    def of_array(noises: Array) -> Array:
        return np.array([function(noise) for noise in noises])

    return crossing(of_array, _LOWEST, _HIGHEST, num_grid=_NUM_GRID)


def bayes_success(shape: Shape, noise: float) -> Success:
    """P and S_J of A_ij proportional to the probability that i and j share a class, for known centres.

    A posterior is the softmax of (K - 1) z u_k / s^2 over the centred unit centres u_k.
    """
    z_RNK = views(shape, noise)[..., :-1].astype(np.float64)
    posterior_RNK = softmax((shape.num_classes - 1) / noise**2 * (z_RNK @ simplex(shape.num_classes).T), axis=-1)
    a_RNN = posterior_RNK @ posterior_RNK.transpose(0, 2, 1)
    rows_N = np.arange(a_RNN.shape[-1])
    a_RNN[:, rows_N, rows_N] = 0
    a_RNN /= a_RNN.sum(-1, keepdims=True)
    return success_of_affinities(a_RNN, np.zeros(a_RNN.shape[:2], dtype=bool), shape.rows)


def _projected(setting: Setting, metric: str) -> float:
    return scale(setting) * weighted(setting, lambda shape: projected_threshold(shape, metric))


def _projected_outcome(setting: Setting, metric: str) -> float:
    (sigma,) = setting.given("sigma")
    noise = sigma / scale(setting)
    return weighted(setting, lambda shape: getattr(success(shape, noise, projector(shape)), metric))


def _one_block(setting: Setting) -> Setting:
    return dataclasses.replace(setting, num_blocks=1)


def _bayes(setting: Setting) -> float:
    return scale(setting) * weighted(_one_block(setting), lambda shape: bayes_threshold(shape, "s_j"))


def _bayes_outcome(setting: Setting) -> float:
    (sigma,) = setting.given("sigma")
    noise = sigma / scale(setting)
    return weighted(_one_block(setting), lambda shape: bayes_success(shape, noise).s_j)


_MOST_CLASSES = 5
_MOST_PROJECTED_BLOCKS = 2
_MOST_BAYES_CLASSES = 10
_LEAST_CONTROL_CLASSES = 5


def _outside(setting: Setting) -> str | None:
    if setting.cosine > 0:
        return f"covers cosines of centres up to 0, but it is {setting.cosine:.3g}: training then uses their mean"
    return first_reason(outside_trained(setting, _MOST_CLASSES), outside_blocks(setting, 1, _MOST_PROJECTED_BLOCKS))


def _outside_bayes(setting: Setting) -> str | None:
    return outside_trained(_one_block(setting), _MOST_BAYES_CLASSES)


def _outside_control(setting: Setting) -> str | None:
    (num_classes,) = setting.given("num_classes")
    if num_classes < _LEAST_CONTROL_CLASSES or setting.cosine > 0:
        return f"is far from training only from {_LEAST_CONTROL_CLASSES} classes on and for cosines up to 0"
    return first_reason(outside_blocks(setting, 1, 1), _outside_bayes(setting))


# Bands: one to four seeds of Adam at 0.01 or 0.003 with a cosine schedule over 1,500 to 6,000 steps from identity
# weights, centres in a random basis.
TRAINED = Law(
    name="trained",
    says="a trained block breaks at sigma = s sqrt(d (1 - c) / K), like one on K - 1 dimensions: it is a projection",
    quantity="sigma",
    direction="largest",
    metric="p",
    level=0.5,
    inputs=("dim", "num_classes", "batch", "num_blocks"),
    assumptions="trained at a batch of about the judged size (at most twice or half of it) until every weight is the "
    "projection on the class subspace; the plateau before an offset is learned (law trained_plus)",
    validity=f"K {LEAST_CLASSES} to {_MOST_CLASSES}, d >= {LEAST_DIM}, at least {LEAST_ROWS} rows of a class, 1 or "
    f"{_MOST_PROJECTED_BLOCKS} blocks, c <= 0; {TRAINED_BY}",
    kind=trained_fusion,
    outside=_outside,
    threshold=lambda setting: _projected(setting, "p"),
    outcome=lambda setting: _projected_outcome(setting, "p"),
    band=frozen(0.0311, 0.1277, 18),
    section="section 6.1",
)
TRAINED_JSD = dataclasses.replace(
    TRAINED,
    name="trained_jsd",
    metric="s_j",
    threshold=lambda setting: _projected(setting, "s_j"),
    outcome=lambda setting: _projected_outcome(setting, "s_j"),
    band=frozen(0.013, 0.0599, 18),
)
BAYES_JSD = Law(
    name="bayes_jsd",
    says="where affinities proportional to the probability of a common class, with centres known, lose half of the "
    "divergence: a reference above training",
    quantity="sigma",
    direction="largest",
    metric="s_j",
    level=0.5,
    inputs=("dim", "num_classes", "batch"),
    assumptions="centres and noise known to the affinity; not a bound, for posteriors do not minimise the divergence",
    validity=f"K {LEAST_CLASSES} to {_MOST_BAYES_CLASSES}; its error is the distance of training from it",
    kind=trained_fusion,
    outside=_outside_bayes,
    threshold=_bayes,
    outcome=_bayes_outcome,
    band=frozen(0.1666, 0.552, 36),
    section="section 6.3",
)
CONTROL_BAYES_AS_MASS = dataclasses.replace(
    BAYES_JSD,
    name="control_bayes_as_mass",
    says="the same as the threshold of mass of one trained block: must come out too high",
    metric="p",
    inputs=("dim", "num_classes", "batch", "num_blocks"),
    validity=f"one block, K {_LEAST_CONTROL_CLASSES} to {_MOST_BAYES_CLASSES}, c <= 0",
    kind=trained_fusion,
    outside=_outside_control,
    outcome=None,
    band=frozen(0.739, 1.045, 9),
    is_control=True,
)

LAWS = (TRAINED, TRAINED_JSD, BAYES_JSD, CONTROL_BAYES_AS_MASS)
