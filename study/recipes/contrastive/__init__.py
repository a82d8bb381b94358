"""TransFusion, OAR and a supervised baseline: their configuration, data, models, losses, metrics and laws."""
