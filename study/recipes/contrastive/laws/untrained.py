"""What laws of fusion refuse alike: settings outside the data model, other weights, too few rows."""

from study.recipes.contrastive.laws.law import Setting

LEAST_DIM = 16
MOST_CLASSES = 19


def first_reason(*reasons: str | None) -> str | None:
    """The first reason that there is."""
    return next((reason for reason in reasons if reason is not None), None)


def outside_views(setting: Setting) -> str | None:
    """Why views are not noise around the centre of their class and nothing else."""
    if setting.spread > 0:
        return f"assumes that views of a class differ by noise alone, but sources have a spread of {setting.spread:g}"
    if setting.mean_norm > 0:
        return f"assumes inputs without a common mean, but theirs has norm {setting.mean_norm:g}"
    return None


def outside_cosine(setting: Setting, lowest: float) -> str | None:
    """Why centres cannot have their cosine, of which ``lowest`` is the smallest."""
    # The simplex is often written with a rounded cosine.
    if lowest - 1e-3 <= setting.cosine < 1:
        return None
    return f"needs a cosine of centres from {lowest:.3g} to below 1, but it is {setting.cosine:.3g}"


def outside_model(
    setting: Setting, *, least_cosine: float | None = None, most_classes: int = MOST_CLASSES
) -> str | None:
    """Why views are not those of the theory's model with identity weights (docs/theory.md, section 0).

    ``least_cosine``: smallest cosine of centres that a law covers (default: -1/(K-1), the smallest there is).
    ``most_classes``: largest number of classes that a law was verified for.
    """
    if setting.weights == "trained":
        return "assumes identity weights, but the weights are trained"
    if setting.init == "default":
        return "assumes identity weights, but the initial weights are random"
    if setting.layer_norm:
        return "assumes blocks without layer normalisation"
    if (reason := outside_views(setting)) is not None:
        return reason
    if setting.dim is not None and setting.dim < LEAST_DIM:
        return f"needs at least {LEAST_DIM} dimensions for cosines to be Gaussian, but there are {setting.dim}"
    if setting.num_classes is None:
        return None
    if not 2 <= setting.num_classes <= most_classes:
        return f"was verified for 2 to {most_classes} classes, but there are {setting.num_classes}"
    if setting.dim is not None and setting.num_classes >= setting.dim:
        return f"needs more dimensions than classes, but there are {setting.dim} and {setting.num_classes}"
    return outside_cosine(setting, -1 / (setting.num_classes - 1) if least_cosine is None else least_cosine)


def outside_batch(setting: Setting, least_rows: float) -> str | None:
    """Why a balanced batch is too small: fewer than ``least_rows`` rows of each class."""
    if setting.batch is None or setting.num_classes is None or setting.batch >= least_rows * setting.num_classes:
        return None
    return (
        f"needs at least {least_rows:g} rows of each of {setting.num_classes} classes, "
        f"but the batch has {setting.batch:g} rows"
    )


def outside_blocks(setting: Setting, least: int, most: int) -> str | None:
    """Why a number of blocks does not fit: not a whole number from ``least`` to ``most``."""
    blocks = setting.num_blocks
    if blocks is None or (least <= blocks <= most and blocks == int(blocks)):
        return None
    wanted = "one block" if least == most == 1 else f"{least} to {most} blocks"
    return f"covers {wanted}, but there are {blocks:g}"


def outside_sigma(setting: Setting) -> str | None:
    """Why a strength is none."""
    if setting.sigma is None or setting.sigma > 0:
        return None
    return f"needs a positive sigma, but it is {setting.sigma:g}"
