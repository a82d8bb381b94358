"""The settings of what is learned: trained blocks, InfoNCE near its collapse, sources and labels (see settings.py)."""

import math
from dataclasses import replace
from typing import Literal

from study.recipes.contrastive.laws.law import Setting
from verification.laws.settings import NUM_DRAWS, Draw, Draws

Schedule = Literal["constant", "cosine"]
SCHEDULES: tuple[Schedule, ...] = ("cosine", "constant")


def trained(seed: int) -> Draws:
    """1 or 2 blocks, d from 3 K (at least 16) to 64, 5 to 12 rows of a class, c = 0 (four) and simplex (two).

    Adam at 3e-3 with a cosine schedule from identity weights, centres in a random basis, batches of the N that is
    judged: 1,500 steps for one block, 6,000 for two, which learn their offset late.
    """
    draw, settings = Draw(seed, "trained"), []
    for num_blocks, is_simplex in ((1, False), (2, False), (1, True), (2, True), (1, False), (2, False)):
        stack = draw.stack(dims=(16, 64), is_simplex=is_simplex, rows=(5, 12))
        assert stack.num_classes is not None
        dim = draw.size(max(16, 3 * stack.num_classes), 64)
        steps = 1_500 if num_blocks == 1 else 6_000
        settings.append(_from_identity(replace(stack, dim=dim, num_blocks=num_blocks, steps=steps), 3e-3, "cosine"))
    return tuple(settings)


def _from_identity(setting: Setting, rate: float, schedule: Schedule) -> Setting:
    """Trained by Adam from identity weights, on batches as large as those judged unless the setting says else.

    Centres lie in a random basis: Adam learns more slowly along coordinate axes.
    """
    return replace(
        setting,
        train_batch=setting.train_batch or setting.batch,
        weights="trained",
        init="identity",
        basis="random",
        optimizer="adam",
        learning_rate=rate,
        schedule=schedule,
    )


def coverage(seed: int) -> Draws:
    """Six of one block: K in turn from 3..10, d 24..64, sigma 0.5..0.7 of sqrt(d / K), 6,000 examples.

    Adam at 0.03 with a cosine schedule; judged on 12 rows of a class.
    """
    draw, settings = Draw(seed, "coverage"), []
    for lowest, highest in ((3, 4), (5, 7), (8, 10)) * 2:
        k, dim = lowest + int((highest - lowest + 1) * draw.random()), draw.size(24, 64)
        sigma = float(f"{draw.even(0.5, 0.7) * math.sqrt(dim / k):.4g}")
        setting = Setting(dim=dim, num_classes=k, sigma=sigma, batch=12 * k, num_blocks=1, num_examples=6_000)
        settings.append(replace(_from_identity(setting, 0.03, "cosine"), train_batch=None))
    return tuple(settings)


def _steps(draw: Draw, rate: float, schedule: Schedule) -> Setting:
    stack = draw.stack(dims=(64, 256), is_simplex=False, rows=(3, 8))
    assert stack.num_classes is not None
    assert stack.dim is not None
    sigma = float(f"{draw.even(0.5, 0.9) * math.sqrt(stack.dim / stack.num_classes):.4g}")
    judged = replace(stack, sigma=sigma, train_batch=stack.batch, batch=12 * stack.num_classes)
    return _from_identity(judged, rate, schedule)


def steps(seed: int) -> Draws:
    """One block: d 64..256, 3 to 8 rows of a class in training, sigma 0.5..0.9 of sqrt(d / K), judged on 12 of a class.

    Adam from identity weights at four rates with both schedules, four more times at 0.03 with a cosine.
    """
    draw = Draw(seed, "steps")
    both = [(rate, schedule) for rate in (0.003, 0.01, 0.03, 0.1) for schedule in SCHEDULES]
    return tuple(_steps(draw, rate, schedule) for rate, schedule in [*both, *[(0.03, SCHEDULES[0])] * 4])


def steps_on_axes(seed: int) -> Draws:
    """Four more at 0.03 with a cosine, centres on the coordinate axes: outside of what the law claims."""
    draw = Draw(seed, "steps_on_axes")
    return tuple(replace(_steps(draw, 0.03, SCHEDULES[0]), basis="axes") for _ in range(4))


def hessian(seed: int) -> Draws:
    """InfoNCE at one point: 3 to 12 sources of 2 to 4 views in 3 to 6 dimensions, temperature 0.1..1."""
    draw, settings = Draw(seed, "hessian"), []
    for _ in range(NUM_DRAWS):
        num_views = draw.size(2, 4)
        settings.append(
            Setting(
                train_batch=num_views * draw.size(3, 12),
                num_views=num_views,
                embedding_dim=draw.size(3, 6),
                temperature=draw.ratio(0.1, 1.0),
            )
        )
    return tuple(settings)


def free_escape(seed: int) -> Draws:
    """Free embeddings: 6 to 40 sources of 2 or 3 views in 8 to 32 dimensions, temperature 0.1..1.

    They start from a variance of 1e-6..1e-2 and grow by 3 to 30 % per step.
    """
    draw, settings = Draw(seed, "free_escape"), []
    for _ in range(NUM_DRAWS):
        num_views = draw.size(2, 3)
        rows, temperature = num_views * draw.size(6, 40), draw.ratio(0.1, 1.0)
        settings.append(
            Setting(
                train_batch=rows,
                num_views=num_views,
                embedding_dim=draw.size(8, 32),
                temperature=temperature,
                learning_rate=float(f"{draw.ratio(0.03, 0.3) * temperature * (rows - 1) / 2:.4g}"),
                first_step_variance=draw.ratio(1e-6, 1e-2),
                optimizer="sgd",
                schedule="constant",
            )
        )
    return tuple(settings)


def alignment_rate(seed: int) -> Draws:
    """Free embeddings: 6 to 40 sources of 2 views in 8 to 32 dimensions, temperature 0.3..1."""
    draw = Draw(seed, "alignment_rate")
    return tuple(
        Setting(
            train_batch=2 * draw.size(6, 40),
            num_views=2,
            embedding_dim=draw.size(8, 32),
            temperature=draw.ratio(0.3, 1.0),
            optimizer="sgd",
            schedule="constant",
        )
        for _ in range(NUM_DRAWS)
    )


def _frozen(draw: Draw) -> Setting:
    num_classes = 3 + int(6 * draw.random())
    return Setting(
        dim=draw.size(24, 64),
        num_classes=num_classes,
        cosine=-1 / (num_classes - 1),
        sigma=draw.even(0.7, 1.5),
        spread=draw.even(0.3, 1.0),
        mean_norm=draw.even(1.5, 4.0),
        train_batch=2 * draw.size(32, 96),
        num_views=2,
        embedding_dim=draw.size(16, 64),
        temperature=draw.ratio(0.2, 1.0),
        learning_rate=draw.ratio(50.0, 200.0),
        optimizer="sgd",
        schedule="constant",
    )


def frozen_escape(seed: int) -> Draws:
    """A linear encoder on inputs with a common mean of norm 1.5..4: InfoNCE by plain SGD at 50..200.

    K 3 to 8, d 24..64, simplex, spread 0.3..1, sigma 0.7..1.5, batches of 64 to 192 rows, temperature 0.2..1.
    """
    draw = Draw(seed, "frozen_escape")
    return tuple(_frozen(draw) for _ in range(NUM_DRAWS))


def oar_escape(seed: int) -> Draws:
    """The same with OAR at a weight of 0.5..5 from the second step on."""
    draw = Draw(seed, "oar_escape")
    return tuple(replace(_frozen(draw), oar_weight=draw.ratio(0.5, 5.0)) for _ in range(NUM_DRAWS))


def labels(seed: int) -> Draws:
    """Labelled sources of K classes, d 64..256, spread 0.35..0.55 of sqrt(d (1 - c)); c = 0 and simplex in turn."""
    draw, settings = Draw(seed, "labels"), []
    for index in range(NUM_DRAWS):
        stack = draw.stack(dims=(64, 256), is_simplex=index % 2 == 1)
        assert stack.dim is not None
        spread = float(f"{draw.ratio(0.35, 0.55) * math.sqrt(stack.dim * (1 - stack.cosine)):.4g}")
        settings.append(Setting(dim=stack.dim, num_classes=stack.num_classes, cosine=stack.cosine, spread=spread))
    return tuple(settings)


def labels_trained(seed: int) -> Draws:
    """A linear encoder on labelled sources alone: c = 0, d 64..256, spread 0.33..0.45 of sqrt(d), sigma 0.4..0.8 of it.

    Plain SGD over 300 steps at a rate that shrinks the start by exp(-3.5) to exp(-35), as the law has it.
    """
    draw, settings = Draw(seed, "labels_trained"), []
    for _ in range(NUM_DRAWS):
        stack = draw.stack(dims=(64, 256), is_simplex=False)
        assert stack.dim is not None
        assert stack.num_classes is not None
        spread = float(f"{draw.ratio(0.33, 0.45) * math.sqrt(stack.dim):.4g}")
        sigma, steps = float(f"{draw.ratio(0.4, 0.8) * spread:.4g}"), 300
        rate = draw.ratio(3.5, 35) * stack.num_classes * (1 + spread**2 + sigma**2) / (3 * steps * sigma**2)
        settings.append(
            Setting(
                dim=stack.dim,
                num_classes=stack.num_classes,
                spread=spread,
                sigma=sigma,
                steps=steps,
                learning_rate=float(f"{rate:.4g}"),
                optimizer="sgd",
                schedule="constant",
            )
        )
    return tuple(settings)


def label_coverage(seed: int) -> Draws:
    """Labels drawn at random of 3 to 100 classes."""
    draw = Draw(seed, "label_coverage")
    return tuple(Setting(num_classes=draw.size(3, 100)) for _ in range(NUM_DRAWS))


def source_batch(seed: int) -> Draws:
    """One identity block, 2 and 4 views, d 64..256, sigma 0.5..2; 8 to 50 sources where a batch is given.

    In turn every source is a direction of its own, or one of K = 3..10 classes with a spread of 0.5..2.
    """
    draw, settings = Draw(seed, "source_batch"), []
    for index in range(NUM_DRAWS):
        num_views = (2, 4)[index // 2 % 2]
        isolated = Setting(
            dim=draw.size(64, 256),
            sigma=draw.ratio(0.5, 2.0),
            batch=num_views * draw.size(8, 50),
            num_views=num_views,
            num_blocks=1,
            weights="identity",
        )
        num_classes, spread = 3 + int(8 * draw.random()), draw.ratio(0.5, 2.0)
        settings.append(replace(isolated, num_classes=num_classes, spread=spread) if index % 2 else isolated)
    return tuple(settings)
