"""How small may the batch of TransFusion be before it stops learning the classes?

Command: python -m study.sweep batch_limit
Size:    88 to 104 replicates of 20,000 training images
Cost:    5 minutes on two cores (2026-11-23)

The batch is varied over powers of two at a fixed number of training images, so a small batch takes more steps. The
learning rate moves the limit and is tuned afresh at every batch, on other seeds and on the validation split. All
replicates are judged on test batches of 12 rows per class, whatever they trained with.
"""

from study.config import EvaluationConfig, HorizonConfig, ReplicateConfig
from study.space import Axis, Criterion, SearchSpace, Variant

SPACE = SearchSpace(
    name="batch_limit",
    question="How small may the batch of TransFusion be before it stops learning the classes?",
    config=ReplicateConfig(
        horizon=HorizonConfig(unit="examples", length=20_000),
        evaluation=EvaluationConfig(split="test", knn_bank=5_000),
    ),
    scientific=(Axis(path="batch.train", values=(4, 8, 16, 32, 64, 128, 256, 512), label="training batch (rows)"),),
    nuisance=(Axis(path="optimizer.learning_rate", values=(3e-5, 1e-4, 3e-4), label="learning rate"),),
    criterion=Criterion(metric="p", fraction=0.5),
    tuning={"evaluation.split": "validation", "evaluation.knn_bank": 0, "evaluation.num_points": 1},
    margin_octaves=0.5,
    variants={
        "learning": Variant(),
        "fixed_steps": Variant(values={"horizon.unit": "steps", "horizon.length": 300}),
    },
    profiles={
        "laptop": {},
        # Default initialisation can leave every row of a ResNet dead before the first step (LOG.md): identity does not.
        "cluster": {
            "model.encoder": "resnet18",
            "model.init": "identity",
            "model.embedding_dim": 128,
            "horizon.length": 2_000_000,
        },
    },
    datasets={
        "fashion_mnist": {},
        "digits": {},
        "cifar10": {},
        "cifar100": {"batch.eval": 1_200},
        "clusters": {
            "model.encoder": "none",
            "model.init": "identity",
            "data.strength": 2.0,
            "batch.eval": 60,
            "evaluation.knn_bank": 0,
        },
    },
)
