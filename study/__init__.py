"""Find out where a training recipe breaks, with a confidence interval, and whether a theory predicted it."""
