"""States of training as bytes: tensors on the CPU, numbers and text."""

import io
from typing import Any, Protocol

import torch

from study.interface.run import CheckpointStore


class StateStore(Protocol):
    """Where the states of unfinished replicates are kept, one per key."""

    def load(self, key: str) -> dict[str, Any] | None: ...

    def save(self, key: str, state: dict[str, Any]) -> None: ...

    def delete(self, key: str) -> None: ...


def to_bytes(state: dict[str, Any]) -> bytes:
    """A state as a file that torch reads with ``weights_only=True``."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


class TorchCheckpoints:
    """A store of bytes as one of states."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store

    def load(self, key: str) -> dict[str, Any] | None:
        """The checkpoint of a replicate; a damaged one is discarded, and training starts anew."""
        data = self._store.load(key)
        if data is None:
            return None
        try:
            state = torch.load(io.BytesIO(data), weights_only=True)
            return state if isinstance(state, dict) else None
        except MemoryError:
            raise
        # There is no list of what torch raises for bytes that are no checkpoint.
        except Exception:
            self.delete(key)
            return None

    def save(self, key: str, state: dict[str, Any]) -> None:
        self._store.save(key, to_bytes(state))

    def delete(self, key: str) -> None:
        self._store.delete(key)
