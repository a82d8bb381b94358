"""Ctrl-C and SIGTERM: what ran is recorded at once, then the program unwinds; an answer that is out is not undone."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """The signals that end a sweep (a closed terminal's too); the first one is remembered in ``received``.

    ``on_stop`` is called at once, amid whatever runs: a batch system kills seconds after its signal. Then
    KeyboardInterrupt unwinds the program, for SIGTERM too; a second signal says ``farewell`` and ends the process where
    it stands.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.on_stop: Callable[[], None] = lambda: None
        self.trouble: Exception | None = None
        self.farewell = ""
        self._is_recorded = False

    def install(self) -> None:
        """Take the signals; to be called in the main thread. What ``nohup`` ignores stays ignored."""
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._stop)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self._is_recorded:
            # Below Python's streams: they may be in the middle of a line.
            os.write(2, self.farewell.encode(errors="replace"))
            os._exit(self.exit_code)
        if self.received is None:
            self.note(number)
            raise KeyboardInterrupt

    def note(self, number: int = signal.SIGINT) -> None:
        """Record what runs, once; KeyboardInterrupt may also come from a library that saw the signal itself.

        Where that fails, ``trouble`` says why, and the program unwinds all the same.
        """
        if self.received is None:
            self.received = number
            try:
                self.on_stop()
            except Exception as error:
                self.trouble = error
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

        for number in _SIGNALS:
            signal.signal(number, end)
