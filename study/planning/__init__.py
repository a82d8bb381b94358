"""Which replicates come next, as a pure function of the design and of what has settled."""
