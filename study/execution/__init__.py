"""From a plan to rows of the ledger: the queue of packs, Ray, workers and their failures."""
