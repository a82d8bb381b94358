"""Files for machines: the cluster launcher's YAML and its offline check."""
