"""How long a job may take: known better and better, from the object's size to the length of its audio."""

from __future__ import annotations

import math
import time

from config.settings import JobsSettings
from warmline.jobs.errors import StoreUnavailable, TimedOut, WarmlineError

# A store that is slower than this has a fault that may pass; over the internet, too, a call comes faster.
LEAST_BYTES_PER_SECOND = 64 * 1024
# What a step that cannot be interrupted (a window, a block) may go on after the limit before its process is ended.
CUT_OFF_SECONDS = 10.0


class TimeLimit:
    """One job's, from now on. Threads may share it: it only ever grows."""

    def __init__(self, settings: JobsSettings) -> None:
        self._seconds = settings.time_limit_seconds
        self._factor = settings.time_limit_factor
        self._started = time.monotonic()
        self._fetch_seconds = 0.0
        self._audio_seconds = 0.0
        self._arrived = False
        self._lifted = False
        self.cut_off_seconds = min(CUT_OFF_SECONDS, settings.time_limit_seconds)

    def grow_by_size(self, size_bytes: int) -> None:
        """The object has so many bytes to be fetched."""
        self._fetch_seconds = size_bytes / LEAST_BYTES_PER_SECOND

    def arrived(self) -> None:
        """The object has been fetched: what takes long from now on is the call's fault, not the store's."""
        self._arrived = True
        self._fetch_seconds = time.monotonic() - self._started  # what it took, and not what it might have taken

    def grow_by_audio(self, audio_seconds: float) -> None:
        """The call is so long at least."""
        self._audio_seconds = max(self._audio_seconds, audio_seconds)

    def lift(self) -> None:
        """The work is done, and its end may be waited for: the ledger or the store may be away."""
        self._lifted = True

    @property
    def seconds(self) -> float:
        """As far as is known now."""
        return self._seconds + self._fetch_seconds + self._factor * self._audio_seconds

    @property
    def overrun_seconds(self) -> float:
        """For how long the job has been past its limit; negative before."""
        return -math.inf if self._lifted else time.monotonic() - self._started - self.seconds

    def check(self) -> None:
        """Raises TimedOut past the limit, or StoreUnavailable when the call had not arrived by then."""
        if self.overrun_seconds > 0:
            raise self.failure()

    def failure(self) -> WarmlineError:
        """What a job that took longer has failed with."""
        if self._arrived:
            return TimedOut(
                f"The job took longer than {self.seconds:.0f} s, as WARMLINE_JOBS_TIME_LIMIT_FACTOR and "
                "WARMLINE_JOBS_TIME_LIMIT_SECONDS allow; is the recording intact?"
            )
        return StoreUnavailable(f"The call did not arrive within {self.seconds:.0f} s; check the network.")
