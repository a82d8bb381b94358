"""The collapse of an encoder whose inputs share a mean: frozen, not attracting; how long it lasts, and OAR's part.

A first large step blows a linear encoder up along the common mean of its inputs: all embeddings are parallel and of
norm R_1, and gradients of cosines fall with its square. What is left of the sources' differences grows exponentially,
and faster while the norm shrinks. That flow has four numbers (docs/theory.md, sections 9.4 and 9.5): the common part of
embeddings along the mean of the anchors and across it, and the class part along the anchors and across them. InfoNCE
pushes embeddings away from the common part, OAR pulls them to their anchors; both move an encoder through its inputs,
so each number moves in proportion to the variance of the inputs behind it.
"""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.integrate import solve_ivp

from study.recipes.contrastive.laws.kinds import collapsed_encoder
from study.recipes.contrastive.laws.law import Array, Law, Setting, frozen

_COMMON = np.array([1.0, 1.0, 0.0, 0.0])
# Largest part of the common embedding that one step may turn: beyond, the steps are not small.
_LARGEST_TURN = 0.3
# The time in steps is all but proportional to the rate: each iteration divides the error by more than 10.
_NUM_RATE_ITERATIONS = 6


class InputGeometry(NamedTuple):
    """What the flow needs to know of the unaugmented inputs, before they are divided by their norms.

    ``mean`` is the squared norm of their mean, ``norm`` their mean squared norm, ``between`` the largest eigenvalue of
    their covariance and ``classes`` the part of it that the classes make.
    """

    mean: float
    norm: float
    between: float
    classes: float


def input_geometry(dim: float, num_classes: float, cosine: float, spread: float, mean_norm: float) -> InputGeometry:
    """Second moments of the sources of the data model (docs/theory.md, section 0.1)."""
    classes = (1 - cosine) / num_classes
    return InputGeometry(
        mean=mean_norm**2 + (1 + (num_classes - 1) * cosine) / num_classes,
        norm=1 + spread**2 + mean_norm**2,
        between=classes + spread**2 / dim,
        classes=classes,
    )


@dataclass(frozen=True, kw_only=True)
class FrozenFlow:
    """The flow of the embedding of a class out of a collapse of norm 1 and variance (1 - mean cosine) ``variance``.

    Time is in units of q^2 R_1^2 / eta, q^2 the mean squared norm of the inputs; ``step`` is that of one training step.
    """

    geometry: InputGeometry
    num_classes: float
    temperature: float
    variance: float
    oar_weight: float = 0.0
    step: float = 0.0

    def velocity(self, z: Array) -> Array:
        """gains * [lambda a - (2/t) f m]_perp / |z|, (4,).

        a is the anchor, m the mean unit embedding, perp the part across the unit embedding, and f the softmax's share
        on rows of other classes, relative to that at one point.
        """
        classes, norm = self.num_classes, np.linalg.norm(z)
        unit = z / norm
        common = unit * _COMMON
        gap = (1 - common @ common) * classes / (classes - 1)
        far_share = 1 / ((1 - 1 / classes) + np.exp(gap / self.temperature) / classes)
        anchor = np.array([classes**-0.5, 0.0, (1 - 1 / classes) ** 0.5, 0.0])
        mean, between, by_class = self.geometry.mean, self.geometry.between, self.geometry.classes
        pull = self.oar_weight * np.array([mean, mean, by_class, by_class]) * _across(anchor, unit)
        push = 2 * far_share / self.temperature * np.array([mean, mean, between, between]) * _across(common, unit)
        return np.asarray((pull - push) / norm)

    def solve(self, end: float, until_escape: bool) -> tuple[float, float]:
        """Time and mean cosine at ``end``, or where the mean cosine falls below 1/2 if that comes first."""

        def change(_time: float, z: Array) -> Array:
            # Steps of finite size lag behind the flow; this is the flow that they follow, to first order in the step.
            velocity = self.velocity(z)
            return velocity if not self.step else 1.5 * velocity - 0.5 * self.velocity(z + self.step * velocity)

        def excess(_time: float, z: Array) -> float:
            return _mean_cosine(z) - 0.5

        excess.terminal = until_escape  # type: ignore[attr-defined]
        start = np.array([0.0, np.sqrt(1 - self.variance), 0.0, np.sqrt(self.variance)])
        solved = solve_ivp(change, (0.0, end), start, events=excess, rtol=1e-6, atol=1e-9)
        return float(solved.t[-1]), _mean_cosine(solved.y[:, -1])

    def escape_time(self) -> float:
        """Time until the mean cosine is 1/2."""
        # The variance grows e-fold in a time of t / (4 between) at first, and slows down a little before the end.
        return self.solve(1e3 * self.temperature / self.geometry.between * np.log(1 / self.variance), True)[0]


def _across(vector: Array, unit: Array) -> Array:
    return np.asarray(vector - (vector @ unit) * unit)


def _mean_cosine(z: Array) -> float:
    return float((z * _COMMON) @ z / (z @ z))


def _geometry(setting: Setting) -> InputGeometry:
    return input_geometry(*setting.given("dim", "num_classes", "cosine", "spread", "mean_norm"))


def _unit_of_time(setting: Setting) -> float:
    """q^2 R_1^2 / eta in steps."""
    norm, rate = setting.given("first_step_norm", "learning_rate")
    return _geometry(setting).norm * norm**2 / rate


def _flow(setting: Setting) -> FrozenFlow:
    num_classes, temperature, variance = setting.given("num_classes", "temperature", "first_step_variance")
    return FrozenFlow(
        geometry=_geometry(setting),
        num_classes=num_classes,
        temperature=temperature,
        variance=variance,
        oar_weight=setting.oar_weight or 0.0,
        step=1 / _unit_of_time(setting),
    )


def _escape_steps(setting: Setting) -> float:
    # The first step makes the collapse.
    return 1 + _unit_of_time(setting) * _flow(setting).escape_time()


def _cosine_after_steps(setting: Setting) -> float:
    (steps,) = setting.given("steps")
    return _flow(setting).solve(max(steps - 1, 0.0) / _unit_of_time(setting), False)[1]


def _critical_rate(setting: Setting) -> float:
    """R_1 = k_1 eta, so that eta_c = (T - 1) / (q^2 k_1^2 time): in proportion to the steps."""
    steps, norm, rate = setting.given("steps", "first_step_norm", "learning_rate")
    for _ in range(_NUM_RATE_ITERATIONS):
        here = dataclasses.replace(setting, learning_rate=rate, first_step_norm=norm)
        factor = steps / _escape_steps(here)
        rate, norm = rate * factor, norm * factor
    return rate


def _not_frozen(setting: Setting) -> str | None:
    if setting.optimizer != "sgd":
        return "covers plain gradient descent, not adam"
    if max(setting.sigma or 0.0, setting.spread) > 1.5:
        return "was verified for sigma and spread up to 1.5"
    if (setting.oar_weight or 0.0) > 5:
        return "was verified for oar_weight up to 5"
    if setting.schedule == "cosine":
        return "covers a constant learning rate, not a cosine schedule"
    if setting.num_views < 2:
        return "needs num_views of at least 2: a contrast of one view has no positive"
    if setting.learning_rate is None:
        return "needs learning_rate: the one at which first_step_norm was measured"
    geometry = _geometry(setting)
    if geometry.mean < 1:
        return "needs inputs with a common mean of norm 1 or more: without one nothing collapses"
    (variance, temperature) = setting.given("first_step_variance", "temperature")
    if not 0 < variance < 0.25:
        return "needs first_step_variance between 0 and 0.25: the first step must have collapsed the embeddings"
    if geometry.mean / (temperature * _unit_of_time(setting)) > _LARGEST_TURN:
        return "first_step_norm is too small for this learning_rate: the steps after the first are not small"
    return None


def _not_frozen_escape(setting: Setting) -> str | None:
    if setting.oar_weight:
        return "covers InfoNCE alone: with oar_weight above 0 see oar_escape"
    return _not_frozen(setting)


def _not_oar_escape(setting: Setting) -> str | None:
    (weight,) = setting.given("oar_weight")
    if weight <= 0:
        return "needs oar_weight above 0: without it see frozen_escape"
    return _not_frozen(setting)


_INPUTS = ("dim", "num_classes", "temperature", "optimizer", "first_step_norm", "first_step_variance")
_ASSUMPTIONS = (
    "a linear encoder, plain gradient descent without momentum or weight decay at a constant rate; R_1 and v_0 of "
    "unaugmented rows after the first step"
)
_ASSUMPTIONS_OAR = _ASSUMPTIONS + "; OAR joins after the first step, with a batch of labelled views of every class"

FROZEN_ESCAPE = Law(
    name="frozen_escape",
    says="steps until InfoNCE leaves the collapse that a large first step makes",
    quantity="steps",
    direction="smallest",
    metric="mean_cosine",
    level=0.5,
    inputs=(*_INPUTS, "learning_rate"),
    assumptions=_ASSUMPTIONS,
    validity="common mean of the inputs >= 1, v_0 < 0.25, spread and sigma <= 1.5, OAR's lambda <= 5, batches of 64 to "
    "512 rows; later steps turn the common direction by less than 0.3",
    kind=collapsed_encoder,
    outside=_not_frozen_escape,
    threshold=_escape_steps,
    outcome=_cosine_after_steps,
    band=frozen(0.054, 0.164, 50),
    ranges={"train_batch": (64, 512)},
    section="section 9.4",
)

OAR_ESCAPE = dataclasses.replace(
    FROZEN_ESCAPE,
    name="oar_escape",
    says="steps until InfoNCE with OAR leaves the collapse that a large first step makes",
    inputs=(*FROZEN_ESCAPE.inputs, "oar_weight"),
    assumptions=_ASSUMPTIONS_OAR,
    kind=collapsed_encoder,
    outside=_not_oar_escape,
    section="section 9.5",
    band=frozen(0.050, 0.250, 199),
)

FROZEN_RATE = Law(
    name="frozen_rate",
    says="learning rate above which the collapse of the first step outlasts the steps: in proportion to the steps",
    quantity="learning_rate",
    direction="largest",
    metric="mean_cosine",
    level=0.5,
    inputs=(*_INPUTS, "steps"),
    assumptions=_ASSUMPTIONS_OAR + "; R_1 grows in proportion to the rate, v_0 does not move with it",
    validity=FROZEN_ESCAPE.validity,
    kind=collapsed_encoder,
    outside=_not_frozen,
    threshold=_critical_rate,
    band=frozen(0.085, 0.260, 54),
    ranges=FROZEN_ESCAPE.ranges,
    section="section 9.4",
)

LAWS = (FROZEN_ESCAPE, FROZEN_RATE, OAR_ESCAPE)
