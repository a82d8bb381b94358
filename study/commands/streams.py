"""Standard output and error of every command: written whole, wrapped for a terminal, and no word of a reader gone."""

import fcntl
import io
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from typing import TextIO

from study.errors import error_sentence
from study.formatting import wrapped

EXIT_BROKEN_PIPE, EXIT_UNWRITTEN = 128 + signal.SIGPIPE, 5


def run_main(main: Callable[[], int]) -> int:
    """The exit code of a command; where its reader has gone away (``| head``) that of a broken pipe, without a word.

    Once everything is written a signal does not change the exit code any more.
    """
    _secure_streams()
    try:
        code = main()
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = EXIT_BROKEN_PIPE
        _write_to_nowhere(sys.stdout, sys.stderr)
    except OSError as error:
        # What is still buffered cannot be written, such as to a full disk.
        code = EXIT_UNWRITTEN
        _write_to_nowhere(sys.stdout)
        print(f"error: the output could not be written ({error_sentence(error)})", file=sys.stderr)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    return code


def _write_to_nowhere(*streams: TextIO) -> None:
    """Let what is still buffered vanish: the interpreter would complain of it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream.fileno())


def _secure_streams() -> None:
    """Standard output and error take every character, and take it to nowhere where they are closed."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None or not _is_writable(number):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if not _is_writable(number):
                # The next file opened would have this number, and what a child process prints would end up in it.
                os.dup2(nowhere, number)
            setattr(sys, name, os.fdopen(nowhere, "w"))
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _is_writable(number: int) -> bool:
    """Whether a file descriptor is open, and for writing."""
    try:
        return fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    except OSError:
        return False


def show(text: str, indent: int = 4) -> None:
    """Print lines for a person to read: as wide as the terminal, as they are where the output goes elsewhere."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(wrapped(text, width, indent))
