"""Laws: thresholds that theory predicts, with their criteria, validity and verified error (docs/theory.md)."""

from study.limits.collapse import ALIGNMENT_RATE, FREE_ESCAPE
from study.limits.coverage import COVERAGE
from study.limits.depth import DEPTH, DEPTH_STATE_EVOLUTION
from study.limits.extreme_value import EXTREME_VALUE
from study.limits.frozen_collapse import FROZEN_ESCAPE, FROZEN_RATE, OAR_ESCAPE
from study.limits.geometric import GEOMETRIC
from study.limits.labels import CLASS_MEAN_LABELS, LABEL_COVERAGE, LABELS_SUBSPACE, TWO_CLASSES
from study.limits.labels_trained import LABELS_TRAINED
from study.limits.law import Law
from study.limits.learning_steps import N2T, N2T_EXAMPLES, N2T_STEPS
from study.limits.one_block import ONE_BLOCK, ONE_BLOCK_CLOSED, ONE_BLOCK_JSD
from study.limits.source_mass import SOURCE_BATCH
from study.limits.spectral import CONTROL_BBP_AS_MASS, SPECTRAL, SPECTRAL_BATCH
from study.limits.state_evolution import STATE_EVOLUTION, STATE_EVOLUTION_BATCH
from study.limits.trained import BAYES_JSD, CONTROL_BAYES_AS_MASS, TRAINED, TRAINED_JSD
from study.limits.trained_plus import TRAINED_PLUS, TRAINED_PLUS_JSD
from study.limits.unbalanced import ONE_BLOCK_UNBALANCED

LAWS: dict[str, Law] = {
    "geometric": GEOMETRIC,
    "extreme_value": EXTREME_VALUE,
    "one_block_closed": ONE_BLOCK_CLOSED,
    "one_block": ONE_BLOCK,
    "one_block_jsd": ONE_BLOCK_JSD,
    "one_block_unbalanced": ONE_BLOCK_UNBALANCED,
    "state_evolution": STATE_EVOLUTION,
    "state_evolution_batch": STATE_EVOLUTION_BATCH,
    "depth": DEPTH,
    "depth_state_evolution": DEPTH_STATE_EVOLUTION,
    "spectral": SPECTRAL,
    "spectral_batch": SPECTRAL_BATCH,
    "control_bbp_as_mass": CONTROL_BBP_AS_MASS,
    "trained": TRAINED,
    "trained_jsd": TRAINED_JSD,
    "trained_plus": TRAINED_PLUS,
    "trained_plus_jsd": TRAINED_PLUS_JSD,
    "bayes_jsd": BAYES_JSD,
    "control_bayes_as_mass": CONTROL_BAYES_AS_MASS,
    "coverage": COVERAGE,
    "n2t": N2T,
    "n2t_examples": N2T_EXAMPLES,
    "n2t_steps": N2T_STEPS,
    "source_batch": SOURCE_BATCH,
    "free_escape": FREE_ESCAPE,
    "alignment_rate": ALIGNMENT_RATE,
    "frozen_escape": FROZEN_ESCAPE,
    "frozen_rate": FROZEN_RATE,
    "oar_escape": OAR_ESCAPE,
    "class_mean_labels": CLASS_MEAN_LABELS,
    "labels_subspace": LABELS_SUBSPACE,
    "labels_trained": LABELS_TRAINED,
    "label_coverage": LABEL_COVERAGE,
    "two_classes": TWO_CLASSES,
}
