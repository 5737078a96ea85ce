"""The ids of a batch and of its jobs, which are counted: so waiting jobs need no entry of their own.

A batch's id is 24 random hex digits (96 bits) and eight zeros; its n-th job, from 1, has n in place of the zeros.
"""

from __future__ import annotations

import secrets

_RANDOM = 24


def new_batch_id() -> str:
    """32 hex digits."""
    return secrets.token_hex(_RANDOM // 2) + "0" * 8


def job_id_of(batch_id: str, place: int) -> str:
    """The id of the batch's job at this place, from 0."""
    return f"{batch_id[:_RANDOM]}{place + 1:08x}"


def batch_of(job_id: str) -> tuple[str, int]:
    """The batch that a job with this id would be of, if there is one, and the job's place in it, from 0."""
    return job_id[:_RANDOM] + "0" * 8, int(job_id[_RANDOM:], 16) - 1
