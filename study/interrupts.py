"""Ctrl-C and SIGTERM: what ran is recorded at once, then the program unwinds; an answer that is out is not undone."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType


class Interrupts:
    """The signals that end a sweep; the first one is remembered in ``received``.

    ``on_stop`` is called at once, amid whatever runs: a batch system kills seconds after its signal. Then
    KeyboardInterrupt unwinds the program, for SIGTERM too; a second signal ends the process where it stands.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.on_stop: Callable[[], None] = lambda: None
        self._is_recorded = False

    def install(self) -> None:
        """Take both signals; to be called in the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self._is_recorded:
            os._exit(self.exit_code)
        if self.received is None:
            self.note(number)
            raise KeyboardInterrupt

    def note(self, number: int = signal.SIGINT) -> None:
        """Record what runs, once; KeyboardInterrupt may also come from a library that saw the signal itself."""
        if self.received is None:
            self.received = number
            self.on_stop()
            self._is_recorded = True

    @property
    def exit_code(self) -> int:
        """128 + the signal that was received."""
        return 128 + (self.received or signal.SIGINT)

    def on_unread(self) -> None:
        """Stop as if Python raised the SIGPIPE of a reader that went away."""
        self._stop(signal.SIGPIPE, None)

    @contextlib.contextmanager
    def kept_through_ray(self) -> Iterator[None]:
        """Take the signals back from ``ray.init``, which has handlers of its own.

        Its first one raises SystemExit, which is a stop like any other. The second, in C++, is in force for the last
        half second of ``ray.init`` (0.5 to 1.0 s measured): a SIGTERM within it aborts the process with exit code 134.
        Nothing has been handed out by then.
        """
        try:
            yield
        except SystemExit:
            self._stop(signal.SIGTERM, None)
        finally:
            self.install()

    def answer_is_out(self, exit_code: int) -> None:
        """From here on a signal ends the process with the answer's own exit code."""

        def end(_number: int, _frame: FrameType | None) -> None:
            os._exit(exit_code)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end)
