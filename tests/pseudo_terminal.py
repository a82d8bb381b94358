"""A command on a terminal of its own, as a person would start it: typed keys go in, the screen's bytes come out."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

CTRL_C = b"\x03"


class TerminalCommand:
    """A command whose three streams are one pseudo-terminal of ``columns``; it leads the terminal's session."""

    def __init__(
        self, command: Sequence[str], cwd: Path, environment: dict[str, str], columns: int = 80, term: str = "xterm"
    ) -> None:
        self._main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        # COLUMNS and LINES would speak louder than the terminal.
        kept = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=kept | {"TERM": term},
            stdin=side,
            stdout=side,
            stderr=side,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(side)
        self._received = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._main, 65536)
            except OSError:
                # Linux says EIO where the last program has left the terminal.
                return
            if not data:
                return
            self._received += data

    @property
    def screen(self) -> str:
        """Everything written so far, control sequences included."""
        return self._received.decode()

    def type(self, keys: bytes) -> None:
        """Send keys, as from a keyboard."""
        os.write(self._main, keys)

    def wait_until(self, is_reached: Callable[[], bool], seconds: float) -> None:
        """Wait for a state of the world; AssertionError with the screen where the command ends or time runs out."""
        end = time.monotonic() + seconds
        while not is_reached():
            assert time.monotonic() < end, self.screen
            assert self.process.poll() is None, self.screen
            time.sleep(0.05)

    def wait(self, seconds: float) -> int:
        """The exit code; the command is killed where it takes longer."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self._reader.join(5)
        os.close(self._main)
        return code
