"""What a user sees while a sweep runs: a live line on a terminal, one plain line per event elsewhere."""

import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.live import Live

from study.formatting import count, short_number

if TYPE_CHECKING:
    from study.execution.queue import SweepState
    from study.planning.proposals import Proposal

_PURPOSE_WORDS = {
    "tuning": "tuning nuisances",
    "reporting": "reported replicates",
    "tuning new points": "tuning nuisances at new points",
    "seeking": "limit seeking",
}


def duration(seconds: float) -> str:
    """Seconds as a person says them: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class ProgressDisplay:
    """Prints to ``stream``; use as a context manager around the sweep.

    ``on_unread`` is called once, instead of a :class:`BrokenPipeError` amid the sweep, when nobody reads any more.
    """

    def __init__(
        self, state: "SweepState", stream: TextIO | None = None, on_unread: Callable[[], None] = lambda: None
    ) -> None:
        self._state = state
        self._on_unread = on_unread
        self._is_unread = False
        self._stream = stream = stream or sys.stderr
        self._started = time.monotonic()
        self._last: tuple[int, int] | None = None
        self._live: Live | None = None
        if stream.isatty():
            self._live = Live(console=Console(file=stream), refresh_per_second=4, transient=True)

    def __enter__(self) -> "ProgressDisplay":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        if self._is_unread:
            return
        try:
            if self._live is not None:
                self._live.console.print(line, highlight=False)
            else:
                print(line, file=self._stream, flush=True)
        except OSError as error:
            self._is_unread = True
            # A reader that went away wants no more; a terminal that is gone has nothing to do with the sweep.
            if isinstance(error, BrokenPipeError):
                self._on_unread()

    def on_proposal(self, proposal: "Proposal") -> None:
        """Announce a recorded proposal and, where limits are sought, how well they are known before it."""
        cells = len({entry.cell for entry in proposal.entries})
        words = _PURPOSE_WORDS[proposal.purpose]
        line = f"{proposal.title}: {words}, {count(len(proposal.entries), 'replicate')} in {count(cells, 'cell')}"
        self.say("; ".join([line, *_limits_known(proposal)]))

    def on_halved(self, planned: int, sizes: list[int]) -> None:
        """Announce a pack that did not fit into memory, and in which parts it was trained."""
        parts = " + ".join(str(size) for size in sizes)
        self.say(f"a pack of {planned} ran out of memory and was halved: trained as {parts}")

    def on_event(self) -> None:
        """Show where the sweep stands; without a terminal only when a replicate has ended."""
        counts = self._state.counts()
        if self._live is not None:
            self._live.update(self._line(counts))
        elif counts != self._last:
            self.say(self._line(counts))
        self._last = counts

    def _line(self, counts: tuple[int, int]) -> str:
        done, total = counts
        left = self._state.seconds_left()
        planned = " of what is planned so far" if self._state.design.is_sought else ""
        estimate = "" if left is None or done >= total else f", about {duration(left)} left{planned}"
        failed = len(self._state.failed_rows())
        trouble = f", {failed} without a result" if failed else ""
        return (
            f"  {done} of at least {count(total, 'replicate')}{trouble}, "
            f"{duration(time.monotonic() - self._started)}{estimate}"
        )


def _limits_known(proposal: "Proposal") -> list[str]:
    """How many limits are settled, and the widest half-width of those that are not."""
    if not proposal.slices:
        return []
    open_ = [state for state in proposal.slices if not state.is_settled]
    widths = [state.half_width for state in open_ if state.half_width is not None]
    parts = []
    if len(proposal.slices) > 1:
        parts.append(f"{len(proposal.slices) - len(open_)} of {len(proposal.slices)} limits settled")
    if widths:
        parts.append(f"known to about {short_number(max(widths))} octaves{' at the widest' if len(widths) > 1 else ''}")
    reasons = Counter(state.reason for state in open_ if state.half_width is None)
    parts += [f"{number} limits: {reason}" if number > 1 else reason for reason, number in reasons.items()]
    return parts
