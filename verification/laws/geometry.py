"""Pairs and spectra of single batches against their laws: the extreme-value limit, and principal components.

Shape suffixes: R batches, N rows of a batch, D dimensions, K classes, J = K - 1 principal components.
"""

import torch

from study.recipes.contrastive.affinity import affinity, partners, unit
from study.recipes.contrastive.evaluation import pair_auc
from study.recipes.contrastive.laws.extreme_value import EXTREME_VALUE
from study.recipes.contrastive.laws.geometric import GEOMETRIC
from study.recipes.contrastive.laws.spectral import SPECTRAL, subspace_overlap
from verification.laws import settings
from verification.laws.check import Family, Job, Row, Rows, Table, predicted
from verification.laws.simulate import Batches, Centring, draw_batches
from verification.laws.thresholds import largest_crossing, mean_of, median_of

_ROWS_FOR_PAIRS = 20_000
_ROWS_FOR_SPECTRUM = 4_000
_PAIR_AUC = 0.6
# Range of sigma that is halved in the logarithm, and how often: to 1 in 3,000.
_SIGMA_RANGE = (0.02, 12.0)
_HALVINGS = 14
_STACK = ("dim", "num_classes", "cosine", "batch")


def margins(batches: Batches, sigma_R: torch.Tensor) -> torch.Tensor:
    """Least cosine within a class less the largest across classes, (R,), each batch at its own sigma."""
    same_NN = partners(batches.labels_N, batches.labels_N)
    other_NN = batches.labels_N[:, None] != batches.labels_N[None, :]
    x_RND = batches.views(sigma_R)
    cosine_RNN = x_RND @ x_RND.transpose(-1, -2)
    return cosine_RNN[:, same_NN].amin(-1) - cosine_RNN[:, other_NN].amax(-1)


def ordered_up_to(batches: Batches) -> torch.Tensor:
    """The sigma up to which all pairs of each batch are ordered, (R,), by bisection of its margin."""
    low_R, high_R = (torch.full((len(batches.noise_RND),), end).log() for end in _SIGMA_RANGE)
    for _ in range(_HALVINGS):
        middle_R = (low_R + high_R) / 2
        is_ordered_R = margins(batches, middle_R.exp()) > 0
        low_R, high_R = torch.where(is_ordered_R, middle_R, low_R), torch.where(is_ordered_R, high_R, middle_R)
    return ((low_R + high_R) / 2).exp()


def _extreme_value(job: Job) -> Rows:
    (rows,) = job.setting.given("batch")
    batches = draw_batches(job.setting, job.replicates(_ROWS_FOR_PAIRS / rows), job.generator())
    laws = {"extreme values": predicted(job.setting, EXTREME_VALUE), "guarantee": predicted(job.setting, GEOMETRIC)}
    sigma_R = torch.cat([ordered_up_to(chunk) for chunk in batches.chunks()])
    return {"extreme_value": Row(setting=job.setting, measured=median_of(sigma_R), predictions=laws)}


def principal_components(x_RND: torch.Tensor, num_components: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (R, N, J) and axes (R, D, J) of the centred rows."""
    centred_RND = Centring()(x_RND).double()
    values, vectors = torch.linalg.eigh(centred_RND @ centred_RND.transpose(-1, -2))
    scale_RJ = values[..., -num_components:].clamp_min(1e-12).sqrt()[..., None, :]
    left_RNJ = vectors[..., -num_components:]
    return left_RNJ * scale_RJ, centred_RND.transpose(-1, -2) @ left_RNJ / scale_RJ


def _overlap(batches: Batches, sigma: float) -> torch.Tensor:
    """Mean squared cosine of the first K - 1 axes and the span of the centred centres, (R,)."""
    centres_KD = Centring()(batches.centres_KD).double()
    num_components = len(centres_KD) - 1
    basis_JD = torch.linalg.svd(centres_KD, full_matrices=False).Vh[:num_components]
    axes_RDJ = principal_components(batches.views(sigma), num_components)[1]
    return (basis_JD @ axes_RDJ).square().sum((-2, -1)) / num_components


def _component_auc(batches: Batches, sigma: float) -> torch.Tensor:
    """Pair AUC of the affinity of the first K - 1 principal scores, (R,)."""
    scores = unit(principal_components(batches.views(sigma), len(batches.centres_KD) - 1)[0])
    return pair_auc(affinity(scores, scores), batches.labels_N)


def _spectral(job: Job) -> Rows:
    setting = job.setting
    rows, sigma = setting.given("batch", "sigma")
    batches = draw_batches(setting, job.replicates(_ROWS_FOR_SPECTRUM / rows), job.generator())
    few = batches.first(num_batches=2)
    auc = largest_crossing(
        lambda x: _component_auc(batches, x), lambda x: _component_auc(few, x), level=_PAIR_AUC, high=32.0
    )
    overlap = float(subspace_overlap(sigma, rows, *setting.given("dim", "num_classes", "cosine")))
    return {
        "spectral_overlap": Row(
            setting=setting, measured=mean_of(_overlap(batches, sigma)), predictions={"spectral": overlap}
        ),
        "spectral": Row(setting=setting, measured=auc, predictions={"spectral": predicted(setting, SPECTRAL)}),
    }


FAMILIES = (
    Family(
        name="extreme_value",
        draws=settings.extreme_value,
        measure=_extreme_value,
        seconds=0.5,
        tables={
            "extreme_value": Table(
                title="All pairs of a batch in order",
                text="The sigma up to which, in half of the batches, every cosine within a class exceeds all others; "
                "beside it the guarantee of a quarter of the centres' angle.",
                fields=_STACK,
                measured="sigma_max",
                predicted=("extreme values", "guarantee"),
            )
        },
    ),
    Family(
        name="spectral",
        draws=settings.spectral,
        measure=_spectral,
        seconds=0.7,
        tables={
            "spectral_overlap": Table(
                title="Spectral limit: overlap of principal axes and class subspace",
                text="Mean squared cosine at a sigma of 0.4 to 0.7 of the limit.",
                fields=(*_STACK, "sigma"),
                measured="overlap",
                predicted=("spectral",),
            ),
            "spectral": Table(
                title="Spectral limit: sigma at a pair AUC of 0.6",
                text="The largest sigma at which the first K - 1 principal scores of one batch order pairs.",
                fields=_STACK,
                measured="sigma_max",
                predicted=("spectral",),
            ),
        },
    ),
)
