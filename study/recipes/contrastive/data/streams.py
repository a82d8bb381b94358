"""Named random streams of a seed.

A stream is addressed by (seed, name, counters), not advanced: what a step draws depends on nothing that was
drawn before it. A resumed replicate, a worker of many, or a member of a pack draws the same numbers as a
replicate that runs alone.
"""

import hashlib

import torch


def stream(seed: int, name: str, *counters: int) -> torch.Generator:
    """A CPU generator for one named purpose, for example ``stream(7, "order", chunk)``."""
    address = "/".join([str(seed), name, *map(str, counters)])
    state = int.from_bytes(hashlib.blake2b(address.encode(), digest_size=8).digest(), "little")
    generator = torch.Generator()
    generator.manual_seed(state % 2**63)
    return generator
