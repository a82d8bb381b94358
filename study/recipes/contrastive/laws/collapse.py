"""InfoNCE near the collapse to one point: a saddle, how many steps the way out takes, and what large steps break.

The model is the one of free embeddings: every row is a unit vector of its own that plain gradient descent moves on the
sphere, and no encoder ties them together (docs/theory.md, section 9). N rows are M sources of V views each.
"""

from typing import NamedTuple

import numpy as np

from study.recipes.contrastive.laws.kinds import free_embeddings
from study.recipes.contrastive.laws.law import Array, Law, Setting, frozen

# A step of the path in the logarithm of the angle's tangent; its integrand is smooth on the scale of 1.
_LOG_STEP = 0.01


class CollapseHessian(NamedTuple):
    """Eigenvalues of the mean InfoNCE loss at the single point, and how often each occurs.

    ``between`` moves all views of a source together and is negative: the collapse is a strict saddle. ``within`` moves
    the views of a source apart. Rotations of the whole point have eigenvalue 0.
    """

    between: float
    num_between: int
    within: float
    num_within: int
    num_rotations: int


def collapse_hessian(batch: int, temperature: float, embedding_dim: int, num_views: int = 2) -> CollapseHessian:
    """The Hessian of InfoNCE where all ``batch`` unit embeddings coincide, in nats (docs/theory.md, section 9.1)."""
    tangent, num_sources = embedding_dim - 1, batch // num_views
    return CollapseHessian(
        between=-2 / (temperature * (batch - 1)),
        num_between=(num_sources - 1) * tangent,
        within=2 / (temperature * batch) * (num_views / (num_views - 1) - batch / (batch - 1)),
        num_within=(batch - num_sources) * tangent,
        num_rotations=tangent,
    )


def escape_path(
    batch: float, temperature: float, learning_rate: float, variance: float, embedding_dim: float, num_views: float
) -> tuple[Array, Array]:
    """Steps and mean cosines on the way out of a collapse whose variance (1 - mean cosine) is ``variance``, (X,) each.

    The sources form a Gaussian cloud at an angle theta from its middle. log tan theta grows by log(1 - eta h) per
    step, h the negative eigenvalue, slowed down where the softmax looks at near rows and at its positives only:
    1 / [(1 + a/t) ((N - V) + (V - 1) / E) / (N - 1)] with a = sin^2 theta / (p - 1) and E the mean of exp(s/t) over
    other sources, relative to that at the single point (docs/theory.md, section 9.2).
    """
    start = 0.5 * np.log(variance / (1 - variance))
    log_tangent = np.arange(start, max(start, 0.0) + 4.0, _LOG_STEP)
    sine_squared = 1 / (1 + np.exp(-2 * log_tangent))
    per_dim = sine_squared / (embedding_dim - 1)
    others = (1 + per_dim / temperature) ** (-(embedding_dim - 1) / 2)
    others = others * np.exp(-sine_squared / (2 * (temperature + per_dim)))
    slowness = (1 + per_dim / temperature) * ((batch - num_views) + (num_views - 1) / others) / (batch - 1)
    rate = np.log1p(2 * learning_rate / (temperature * (batch - 1)))
    steps = np.concatenate([[0.0], np.cumsum(_LOG_STEP * (slowness[1:] + slowness[:-1]) / 2)]) / rate
    return steps, 1 - sine_squared


def alignment_rate(batch: float, temperature: float, embedding_dim: float) -> float:
    """Learning rate above which two views of a source no longer settle on one another, for V = 2.

    The least of 2 / curvature of the within-source mode at the collapse and where the sources are spread evenly; P+ is
    the positive's share of the softmax there (docs/theory.md, section 9.3).
    """
    num_sources = batch / 2
    positive = np.exp(1 / temperature)
    share = positive / (positive + (batch - 2) * np.exp(-1 / (temperature * (num_sources - 1))))
    at_collapse = temperature * batch * (batch - 1) / (batch - 2)
    where_spread = temperature * batch / ((1 - share) * (2 + 1 / (embedding_dim * temperature)))
    return float(min(at_collapse, where_spread))


def _path(setting: Setting) -> tuple[Array, Array]:
    fields = ("train_batch", "temperature", "learning_rate", "first_step_variance", "embedding_dim", "num_views")
    return escape_path(*setting.given(*fields))


def _free_escape_steps(setting: Setting) -> float:
    steps, cosine = _path(setting)
    return float(np.interp(-0.5, -cosine, steps, left=0.0))


def _free_escape_outcome(setting: Setting) -> float:
    (asked,) = setting.given("steps")
    steps, cosine = _path(setting)
    return float(np.interp(asked, steps, cosine))


def not_contrastive(setting: Setting) -> str | None:
    """Why a setting is not one of InfoNCE trained by plain gradient descent, or None."""
    (rows,) = setting.given("train_batch")
    if setting.num_views < 2:
        return "needs num_views of at least 2: a contrast of one view has no positive"
    if rows < 2 * setting.num_views:
        return "needs at least two sources in a batch: with one, the collapse is the minimum"
    if setting.optimizer == "adam":
        return "covers plain gradient descent, not adam"
    if setting.schedule == "cosine":
        return "covers a constant learning rate, not a cosine schedule"
    return "covers InfoNCE alone, not with oar_weight above 0" if setting.oar_weight else None


def _not_free_escape(setting: Setting) -> str | None:
    reason = not_contrastive(setting)
    if reason is not None:
        return reason
    temperature, variance = setting.given("temperature", "first_step_variance")
    if not 0 < variance < 0.5:
        return "needs first_step_variance between 0 and 0.5: the embeddings must start near one point"
    return "was verified for temperature from 0.1 on" if temperature < 0.1 else None


def _not_alignment(setting: Setting) -> str | None:
    reason = not_contrastive(setting)
    if reason is not None:
        return reason
    if setting.num_views != 2:
        return "covers num_views = 2"
    (temperature,) = setting.given("temperature")
    if temperature < 0.3:
        return "was verified for temperature from 0.3 on: below, whether views align depends on where they start"
    return None


FREE_ESCAPE = Law(
    name="free_escape",
    says="steps until free InfoNCE embeddings leave the collapse to one point",
    quantity="steps",
    direction="smallest",
    metric="mean_cosine",
    level=0.5,
    inputs=("train_batch", "temperature", "learning_rate", "first_step_variance", "embedding_dim"),
    assumptions="free unit embeddings, not an encoder; full-batch gradient descent without momentum; the views of a "
    "source start together and the sources isotropically around one point",
    validity="temperature >= 0.1, N >= 2V, variance at the start below 1/2; not verified below 8 steps",
    kind=free_embeddings,
    outside=_not_free_escape,
    threshold=_free_escape_steps,
    outcome=_free_escape_outcome,
    band=frozen(0.008, 0.044, 42),
    section="section 9.2",
)

ALIGNMENT_RATE = Law(
    name="alignment_rate",
    says="learning rate above which the views of a source no longer align (free embeddings do not collapse at any)",
    quantity="learning_rate",
    direction="largest",
    metric="alignment",
    level=0.04,
    inputs=("train_batch", "temperature", "embedding_dim"),
    assumptions="free unit embeddings, not an encoder, from a random start; full-batch gradient descent without "
    "momentum; alignment is the mean squared distance of two views of a source",
    validity="temperature >= 0.3, two views",
    kind=free_embeddings,
    outside=_not_alignment,
    threshold=lambda setting: alignment_rate(*setting.given("train_batch", "temperature", "embedding_dim")),
    band=frozen(0.033, 0.237, 16),
    section="section 9.3",
)

LAWS = (FREE_ESCAPE, ALIGNMENT_RATE)
