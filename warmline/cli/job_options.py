"""What a report is to be like, on the command line: the same options for every command that makes or asks for one.

A command lists those of them that it takes, with their defaults, and hands them to `read_options`.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from warmline.jobs.errors import InvalidRequest
from warmline.jobs.records import Options

Granularity = Annotated[
    str,
    typer.Option(
        help="segment: windows of speech; utterance: each whole channel, as FunASR does; frame: a window that "
        "slides over the speech."
    ),
]
Hop = Annotated[
    float | None,
    typer.Option(
        "--hop",
        metavar="SECONDS",
        help="With --granularity frame: from one window's start to the next, 0.1 to 30; 1 by default.",
    ),
]
Roles = Annotated[str, typer.Option(help="The channels' roles in order, e.g. agent,customer.")]
Exclude = Annotated[
    str,
    typer.Option(
        metavar="RANGES", help="What is no conversation (seconds, m:ss or h:mm:ss), e.g. 0-12.5,1:30-2:00."
    ),
]
Embedding = Annotated[str, typer.Option(help="none, npy or parquet: the windows' embeddings as a file.")]
SplitSpeakers = Annotated[
    bool,
    typer.Option("--split-speakers", help="Split mono calls into two speakers (needs the extra `diarise`)."),
]

_FLAGS = {"hop_seconds": "--hop"}  # where the flag is not the option's own name


def read_options(
    *, granularity: str, hop: float | None, roles: str, exclude: str, embedding: str, split_speakers: bool
) -> Options:
    """The options of a job as its command line says them. Raises InvalidRequest, which names the flag."""
    from pydantic import ValidationError

    from warmline.calls.call_metadata import parse_ranges

    try:
        return Options.model_validate(
            {
                "granularity": granularity,
                "roles": [role.strip() for role in roles.split(",") if role.strip()],
                "exclude": parse_ranges(exclude),
                "embedding": embedding,
                "split_speakers": split_speakers,
            }
            | ({} if hop is None else {"hop_seconds": hop})
        )
    except InvalidRequest as error:
        raise InvalidRequest(f"--{error.message}") from None
    except ValidationError as error:
        problem: Any = error.errors()[0]
        message = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:  # of two options together
            raise InvalidRequest(message) from None
        name = str(problem["loc"][0])
        flag = _FLAGS.get(name, f"--{name.replace('_', '-')}")
        raise InvalidRequest(f"{flag}: {message}") from None
