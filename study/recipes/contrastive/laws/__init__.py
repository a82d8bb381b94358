"""Laws: thresholds that theory predicts, with their criteria, validity and verified error (docs/theory.md)."""

from study.recipes.contrastive import components

LAWS = components.laws()
