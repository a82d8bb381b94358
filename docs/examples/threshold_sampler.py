"""From which batch size on does a noisy outcome reach one half? Twenty trials of a plain Optuna study.

python docs/examples/threshold_sampler.py
"""

import math
import random

import optuna

from study.planning.optuna_sampler import ThresholdSampler

TRUE_THRESHOLD = 37.0
noise = random.Random(1)


def objective(trial: optuna.Trial) -> float:
    """An outcome that rises from 0.1 to 0.9 around the threshold, with noise as between seeds."""
    batch = trial.suggest_int("batch", 2, 2048, log=True)
    rise = 1 / (1 + (TRUE_THRESHOLD / batch) ** 3)
    return 0.1 + 0.8 * rise + noise.gauss(0, 0.03)


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = ThresholdSampler("batch", level=0.5, floor=0.1)
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=20)

    tried = sorted(trial.params["batch"] for trial in study.trials)
    octaves = [abs(math.log2(batch / TRUE_THRESHOLD)) for batch in tried]
    print("batches tried:", *tried)
    print(f"within one octave of the threshold: {sum(distance <= 1 for distance in octaves)} of {len(tried)}")
    print("smallest batch that reaches 0.5:", sampler.threshold(study).describe("batch"))
    print(f"truth: {TRUE_THRESHOLD:g}")


if __name__ == "__main__":
    main()
