"""What the axes of the contrastive trainers are called, and where they end (config.py refuses what lies beyond)."""

from study.interface.metrics import Quantity

QUANTITIES = {
    "batch.train": Quantity(label="training batch (rows)", unit="batch", falling="maximum useful batch", least=2.0),
    "batch.eval": Quantity(label="batch (rows)", unit="batch", least=4.0),
    "data.strength": Quantity(label="augmentation strength", unit="strength", works_at_once=True),
    "data.label_fraction": Quantity(label="share of labelled training images", unit="label share", least=0.0, most=1.0),
    "optimizer.learning_rate": Quantity(label="learning rate", unit="learning rate", short="rate"),
    "model.num_blocks": Quantity(label="blocks", unit="depth", works_at_once=True, least=1.0),
    "model.embedding_dim": Quantity(label="model.embedding_dim", unit="model.embedding_dim", least=2.0),
    "horizon.length": Quantity(label="steps", unit="horizon.length"),
    "trainer": Quantity(label="method", unit="trainer"),
}
