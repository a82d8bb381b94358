"""Data sets in memory, seeded label subsets, random streams and batched views."""
