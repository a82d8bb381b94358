"""Checkpoints, final models and error texts under artifacts/KEY of a ledger."""

from study.ledger.addresses import without_secret
from study.ledger.store import Store


class Artifacts:
    """Files of single replicates; a store of checkpoints for a run."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, key: str) -> bytes | None:
        """The checkpoint of a replicate."""
        return self._store.read(f"artifacts/{key}/checkpoint.pt")

    def save(self, key: str, state: bytes) -> None:
        """Put a checkpoint in place of the last one."""
        self._store.write(f"artifacts/{key}/checkpoint.pt", state)

    def delete(self, key: str) -> None:
        """Remove a checkpoint; a missing one is no error."""
        self._store.delete(f"artifacts/{key}/checkpoint.pt")

    def save_model(self, key: str, model: bytes) -> None:
        """Keep a final model."""
        self._store.write(f"artifacts/{key}/model.pt", model)

    def save_error(self, key: str, text: str) -> None:
        """Keep the traceback of a failed attempt."""
        self._store.write(f"artifacts/{key}/error.txt", without_secret(text).encode())
