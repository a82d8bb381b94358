"""MLflow beside a running sweep, which it must never stop."""

import time
from collections.abc import Callable

from study.errors import ConfigError, error_sentence
from study.ledger.addresses import without_secret_of
from study.ledger.ledger import Ledger
from study.tracking.mlflow_runs import Tracker

# How many times as long as a failure took it is not tried again.
_PATIENCE = 10


class LiveView:
    """MLflow beside a sweep: whatever it raises is a sentence, and the sweep goes on.

    What fails is left alone for ten times as long as it took, so that a database that nobody opens again, with a
    time-out of seconds at every look, does not slow a sweep down.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._not_before = 0.0
        self._tracker: Tracker | None = None
        self._said: set[str] = set()
        self.num_failures = 0

    def require(self) -> None:
        """Raise :class:`ConfigError` where MLflow cannot be reached now."""
        self._opened()

    def open(self) -> list[str]:
        """Set MLflow up, which may take seconds; returns what there is to say."""
        return self._tried(lambda: None)

    def sync(self, ledger: Ledger, study_hash: str) -> list[str]:
        """:meth:`Tracker.sync`; returns what there is to say, every sentence once."""
        return self._tried(lambda: self._opened().sync(ledger, study_hash))

    def _opened(self) -> Tracker:
        if self._tracker is None:
            self._tracker = Tracker(self._uri)
        return self._tracker

    def _tried(self, act: Callable[[], object]) -> list[str]:
        started = time.monotonic()
        if started < self._not_before:
            return []
        try:
            self._opened()
            started = time.monotonic()
            act()
        # Databases, servers, plugins: there is no list of what they raise, and a view must not stop a sweep.
        except Exception as error:
            self.num_failures += 1
            self._not_before = time.monotonic() + _PATIENCE * (time.monotonic() - started)
            cause = str(error) if isinstance(error, ConfigError) else error_sentence(error)
            sentence = f"MLflow could not be written ({without_secret_of(self._uri, cause)})"
            if sentence not in self._said:
                self._said.add(sentence)
                return [f"{sentence}; the sweep goes on"]
        return []
