"""Write the recorded plans anew from today's code: ``python -m tests.goldens.write``.

Only a change that is meant to move keys may do so: every replicate of a moved key is run again.
"""

from tests.goldens.plans import write_keys

if __name__ == "__main__":
    write_keys()
