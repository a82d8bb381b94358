"""From measured curves to thresholds with intervals, and from thresholds to verdicts."""
