"""What a container says of its own length, where the decoding libraries do not tell."""

from __future__ import annotations

import os
import re
from pathlib import Path

# A recorder that streams writes the largest length it can, or one near 2 GiB, in place of the one it cannot know.
_UNKNOWN_LENGTH_FROM_BYTES = 0x7FFF_0000
# Some writers miscount by a header or a padding byte; that cuts no speech off.
_SLACK_BYTES = 64
# libsndfile opens a file that was cut off with the length it found, and tells the lengths that were written in its
# log alone: "data : 389378 (should be 194660)".
_WRONG_LENGTH = re.compile(
    r"^\s*(?:RIFF|riff|Riff size|FORM|data|SSND|Data [Ss]ize)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE
)
_OGG_PAGE = b"OggS"
_OGG_LAST_PAGE_FLAG = 0x04
_OGG_LONGEST_PAGE_BYTES = 65_307


def libsndfile_log_says_truncated(log: str) -> bool:
    """True if a chunk is shorter than its header says (`SoundFile.extra_info`)."""
    lengths = ((int(written), int(found)) for written, found in _WRONG_LENGTH.findall(log))
    return any(found + _SLACK_BYTES < written < _UNKNOWN_LENGTH_FROM_BYTES for written, found in lengths)


def ogg_ends_early(path: Path) -> bool:
    """True if an Ogg file's last page is not marked as the last of its stream (RFC 3533, section 6)."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2 * _OGG_LONGEST_PAGE_BYTES))
        tail = file.read()
    last_page = tail.rfind(_OGG_PAGE)
    if last_page < 0 or last_page + 27 > len(tail):
        return True
    if not tail[last_page + 5] & _OGG_LAST_PAGE_FLAG:
        return True
    # The page's own length: its header, its table of segments, and the segments.
    segments = tail[last_page + 27 : last_page + 27 + tail[last_page + 26]]
    return last_page + 27 + len(segments) + sum(segments) > len(tail)


def mp3_states_its_length(head: bytes) -> bool:
    """True if an MP3 begins with a Xing or Info header; without it, its length is a guess from the bit rate."""
    start = 0
    if head[:3] == b"ID3" and len(head) >= 10:
        # ID3v2's size has seven bits a byte and leaves out its own header.
        start = 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
    first_frame = head[start : start + 256]
    return b"Xing" in first_frame or b"Info" in first_frame
