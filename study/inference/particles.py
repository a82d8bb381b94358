"""A tempered particle sampler for posteriors of a few parameters and any shape.

Shapes: D particles, K parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from study.inference.noise import Array
from study.inference.tempering import halves, resampled, tempered

# Between two temperatures the weights keep this share of the particles effective.
EFFECTIVE_SHARE = 0.25
# Few particles that move often know a narrow posterior better than many that hardly move.
NUM_MOVES, NUM_LAST_MOVES = 15, 40
# The draws are those after the last move and these many moves before it.
KEPT_BEFORE = (20, 10, 0)
# Shares of the parameters that a move changes.
CROSSOVERS = (0.15, 0.4, 1.0)


@dataclass(frozen=True, kw_only=True)
class Particles:
    """Equally weighted posterior draws, the log evidence, and the share of the last moves that was accepted."""

    theta_DK: Array
    log_evidence: float
    acceptance: float


def tempered_particles(
    draw_prior: Callable[[int, np.random.Generator], Array],
    log_prior: Callable[[Array], Array],
    log_like: Callable[[Array], Array],
    rng: np.random.Generator,
    *,
    num_particles: int = 500,
) -> Particles:
    """Sample a posterior by tempering from the prior, moving particles along differences of other particles.

    `draw_prior` gives (D, K) particles; `log_prior` and `log_like` map those to (D,), the prior up to a constant and
    minus infinity where it excludes; the likelihood is asked only where the prior allows.

    Sequential Monte Carlo (Del Moral et al. 2006) with differential-evolution moves (ter Braak 2006) in random
    subspaces (Vrugt et al. 2009); each half of the particles takes its differences from the other half, which keeps
    the moves exact.
    """
    theta = draw_prior(num_particles, rng)
    prior, like = log_prior(theta), log_like(theta)
    power, log_evidence, acceptance = 0.0, 0.0, 0.0
    while power < 1:
        step = _next_step(like, 1 - power)
        weight, gained = tempered(like, step)
        log_evidence += gained
        power = 1.0 if step == 1 - power else power + step
        pick = resampled(weight, num_particles, rng)
        theta, prior, like = theta[pick], prior[pick], like[pick]
        if power < 1:
            for _ in range(NUM_MOVES):
                _move(theta, prior, like, power, log_prior, log_like, rng)
    kept = []
    for left in reversed(range(NUM_LAST_MOVES)):
        acceptance += _move(theta, prior, like, power, log_prior, log_like, rng) / NUM_LAST_MOVES
        if left in KEPT_BEFORE:
            kept.append(theta.copy())
    return Particles(theta_DK=np.concatenate(kept), log_evidence=log_evidence, acceptance=acceptance)


def _next_step(like_D: Array, remaining: float) -> float:
    """Return the largest tempering step that keeps the effective share."""

    def effective(step: float) -> float:
        weight = np.exp(step * (like_D - like_D.max()))
        return float(weight.sum() ** 2 / np.sum(weight**2) / len(weight))

    if effective(remaining) >= EFFECTIVE_SHARE:
        return remaining
    low, high = 0.0, remaining
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if effective(middle) >= EFFECTIVE_SHARE else (low, middle)
    return max(low, 1e-6)


def _move(
    theta: Array,
    prior: Array,
    like: Array,
    power: float,
    log_prior: Callable[[Array], Array],
    log_like: Callable[[Array], Array],
    rng: np.random.Generator,
) -> float:
    """Move all particles once, in place; return the share that moved."""
    moved = 0
    for mine, other in halves(len(theta)):
        here, there = theta[mine], theta[other]
        first, second = rng.integers(len(there), size=(2, len(here)))
        # Steps in a random part of the parameters, scaled about the optimum for a Gaussian; one whole difference jumps
        # between modes.
        share = rng.choice(CROSSOVERS, len(here))[:, None]
        moves = rng.random(here.shape) < share
        moves[np.arange(len(here)), rng.integers(here.shape[1], size=len(here))] = True
        gamma = 2.38 / np.sqrt(2 * moves.sum(1, keepdims=True)) * rng.uniform(0.4, 1.2, (len(here), 1))
        gamma = np.where((rng.random((len(here), 1)) < 0.1) & (share == 1), 1.0, gamma)
        proposal = here + moves * (gamma * (there[first] - there[second]) + rng.normal(0, 1e-3, here.shape))
        proposed_prior, proposed_like = log_prior(proposal), np.full(len(here), -np.inf)
        allowed = np.isfinite(proposed_prior)
        if allowed.any():
            proposed_like[allowed] = log_like(proposal[allowed])
        gain = power * (proposed_like - like[mine]) + proposed_prior - prior[mine]
        accept = np.log(rng.random(len(here))) < gain
        theta[mine][accept] = proposal[accept]
        prior[mine][accept], like[mine][accept] = proposed_prior[accept], proposed_like[accept]
        moved += int(accept.sum())
    return moved / len(theta)
