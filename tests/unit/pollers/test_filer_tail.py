"""What `weed filer.meta.tail` prints, cut into entries wherever the pipe cuts it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pollers.filer_tail import EntryReader, EntryTooLong, FilerTail


def entry(name: str, **more: Any) -> dict[str, Any]:
    return {"directory": "/buckets/calls", "eventNotification": {"newEntry": {"name": name}}, "tsNs": "7", **more}


def printed(*entries: dict[str, Any]) -> bytes:
    """As the process prints them."""
    return b"".join(json.dumps(each, indent=2, ensure_ascii=False).encode() + b"\n" for each in entries)


# Names that look like an entry's end, or are cut within a character.
ENTRIES = [entry("a.wav"), entry("}\n}\n"), entry("é漢.wav", events=[]), entry("last.wav")]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_entries_come_whole_however_they_are_cut(size: int) -> None:
    text, reader = printed(*ENTRIES), EntryReader()
    pieces = (text[start : start + size] for start in range(0, len(text), size))
    found = [each for piece in pieces for each in reader.feed(piece)]
    assert [each["eventNotification"] for each in found] == [each["eventNotification"] for each in ENTRIES]


def test_a_torn_entry_is_kept_until_its_end_comes() -> None:
    reader, text = EntryReader(), printed(entry("a.wav"))
    assert list(reader.feed(text[:-1])) == []
    assert len(list(reader.feed(text[-1:]))) == 1


def test_what_cannot_be_read_costs_its_neighbours_nothing() -> None:
    text = printed(entry("a.wav")) + b"{ not JSON\n}\n" + b"[\n}\n" + printed(entry("b.wav"))
    names = [each["eventNotification"]["newEntry"]["name"] for each in EntryReader().feed(text)]
    assert names == ["a.wav", "b.wav"]


def test_bundled_entries_are_entries() -> None:
    bundle = {"directory": "", "eventNotification": None, "tsNs": "9", "events": [entry("a.wav"), entry("b.wav")]}
    with_first = entry("c.wav", events=[entry("d.wav")])
    found = list(EntryReader().feed(printed(bundle, with_first)))
    names = [each["eventNotification"]["newEntry"]["name"] for each in found]
    assert names == ["a.wav", "b.wav", "c.wav", "d.wav"]


def test_memory_has_an_end() -> None:
    reader = EntryReader(max_bytes=1000)
    assert list(reader.feed(b"x" * 900)) == []
    with pytest.raises(EntryTooLong):
        list(reader.feed(b"x" * 101))


def test_what_has_arrived_is_read_together_and_the_end_is_seen(tmp_path: Path) -> None:
    # Given a process that prints entries, waits, prints one and a torn one, and ends
    (tmp_path / "first").write_bytes(printed(*ENTRIES))
    (tmp_path / "second").write_bytes(printed(entry("x.wav")) + b'{\n  "torn"')
    program = (
        "import shutil, sys, time\n"
        "for name in ('first', 'second'):\n"
        "    shutil.copyfileobj(open(name, 'rb'), sys.stdout.buffer)\n"
        "    sys.stdout.flush()\n"
        "    sys.stdin.read() or time.sleep(0.3)\n"
    )
    with FilerTail([sys.executable, "-W", "ignore", "-c", program], tmp_path) as tail:
        # Then what was printed together is read together
        assert len(tail.read(10)) == len(ENTRIES)
        assert not tail.ended
        # And the torn one is dropped at the end
        assert [each["eventNotification"]["newEntry"]["name"] for each in tail.read(10)] == ["x.wav"]
        assert tail.read(10) == []
        assert tail.ended


def test_it_waits_no_longer_than_it_was_told_and_kills_what_it_started(tmp_path: Path) -> None:
    with FilerTail(["/bin/sleep", "1000"], tmp_path) as tail:
        assert tail.read(0.05) == []
        assert not tail.ended
