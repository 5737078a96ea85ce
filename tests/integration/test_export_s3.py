"""Exports into a real S3: uploaded in parts, visible when they are committed, one run at a time."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from config.settings import S3Settings
from tests.unit.exports.conftest import call, check, layout, put
from warmline.calls.stored_reports import BucketShelf, FolderShelf, ReportRef, Shelf
from warmline.exports.export import Progress, export_dataset
from warmline.exports.places import ExportUnderWay, Prefix
from warmline.jobs.errors import InvalidRequest, ObjectNotFound
from warmline.objects.export_bucket import PART_BYTES, ExportBucket, check_export_prefix
from warmline.objects.store import ObjectStore


@pytest.fixture
def bucket(s3_settings: S3Settings, s3_prefix: str) -> Iterator[ExportBucket]:
    """Where the export goes."""
    with closing(ExportBucket(s3_settings, f"{s3_prefix}exports/")) as made:
        yield made


class Dying(Prefix):
    """A prefix whose process is killed in front of a step."""

    def __init__(self, bucket: ExportBucket, step: str) -> None:
        super().__init__(bucket)
        self._step = step
        self._published = 0

    def commit(self, number: int, state: Path) -> bool:
        if self._step == "commit":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().commit(number, state)

    def publish(self, name: str, token: str) -> None:
        self._published += 1
        if self._step == "publish" and self._published == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        super().publish(name, token)

    def done(self, number: int) -> None:
        if self._step == "done":
            os.kill(os.getpid(), signal.SIGKILL)
        super().done(number)


class Exports:
    """Runs of one export of a folder's reports into S3."""

    def __init__(self, bucket: ExportBucket, another_client: Callable[[], ExportBucket], reports: Path) -> None:
        self.reports = reports
        self._bucket = bucket
        self._another_client = another_client

    def put(self, number: int, emotion: str) -> None:
        """Writes a report, over an earlier one."""
        put(self.reports, number, call(number, emotion=emotion))

    def run(self, shelf: Shelf | None = None, place: Prefix | None = None) -> Progress:
        return export_dataset(
            shelf or FolderShelf(self.reports),
            place or Prefix(self._bucket),
            layout(),
            since=None,
            full=False,
            on_progress=lambda _: None,
        )

    def killed_at(self, step: str) -> None:
        child = os.fork()
        if child == 0:
            try:
                self.run(place=Dying(self._another_client(), step))
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"never came to {step}"

    def check(self, into: Path, expected: dict[int, str]) -> None:
        """Fetches what readers see, and holds it against the truth."""
        into.mkdir()
        for name in self._bucket.names(""):
            if not name.startswith("_warmline/"):
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                self._bucket.fetch(name, into / name)
        check(into, expected)


@pytest.fixture
def exports(bucket: ExportBucket, s3_settings: S3Settings, s3_prefix: str, tmp_path: Path) -> Exports:
    return Exports(bucket, lambda: ExportBucket(s3_settings, f"{s3_prefix}exports/"), tmp_path / "reports")


def test_each_run_exports_what_is_new_or_changed_and_a_killed_one_changes_nothing(
    exports: Exports, bucket: ExportBucket, tmp_path: Path
) -> None:
    expected = dict.fromkeys(range(3), "angry")
    for number, emotion in expected.items():
        exports.put(number, emotion)
    assert exports.run().exported == 3
    exports.check(tmp_path / "first", expected)
    assert exports.run().exported == 0

    for turn, step in enumerate(("commit", "publish", "done")):
        for number, emotion in ((turn, "happy"), (10 + turn, "surprised")):
            exports.put(number, emotion)
            expected[number] = emotion
        exports.killed_at(step)
        if step == "commit":
            exports.check(tmp_path / "killed", dict.fromkeys(range(3), "angry"))
        exports.run()
        exports.check(tmp_path / step, expected)

    assert len(list(bucket.names("_warmline/"))) == 2
    # What the run left that was killed before its commit is given up after a day.
    assert bucket.abort_older(timedelta(hours=1)) == 0
    assert bucket.abort_older(timedelta(0)) >= 4
    assert bucket.abort_older(timedelta(0)) == 0


def test_of_two_runs_at_once_one_is_committed(exports: Exports, bucket: ExportBucket, tmp_path: Path) -> None:
    class Interrupted(FolderShelf):
        """While its reports are listed, another run comes and goes."""

        def refs(self) -> Iterator[ReportRef]:
            yield from super().refs()
            assert exports.run().exported == 2

    for number in range(2):
        exports.put(number, "angry")
    with pytest.raises(ExportUnderWay):
        exports.run(Interrupted(exports.reports))
    exports.check(tmp_path / "after", dict.fromkeys(range(2), "angry"))
    assert bucket.abort_older(timedelta(0)) == 0  # the loser took its own back


def test_files_are_uploaded_in_parts(bucket: ExportBucket, tmp_path: Path) -> None:
    large, empty, back = tmp_path / "large", tmp_path / "empty", tmp_path / "back"
    large.write_bytes(os.urandom(PART_BYTES + 12_345))
    empty.write_bytes(b"")

    pending = bucket.upload("a/large", large)
    assert len(pending.etags) == 2
    assert not bucket.exists("a/large")
    bucket.complete("a/large", pending)
    bucket.complete("a/large", pending)  # again, it changes nothing
    bucket.fetch("a/large", back)
    assert back.read_bytes() == large.read_bytes()

    bucket.put("empty", empty)
    bucket.fetch("empty", back)
    assert back.read_bytes() == b""
    given_up = bucket.upload("b", empty)
    bucket.abort("b", given_up)
    with pytest.raises(ObjectNotFound):
        bucket.complete("b", given_up)
    assert bucket.create("once", large)
    assert not bucket.create("once", empty)
    bucket.remove(["a/large", "empty", "was never there"])
    assert list(bucket.names("")) == ["once"]


@pytest.mark.parametrize(
    ("prefix", "results_prefix", "sources", "why"),
    [
        ("", "", ("calls",), "a prefix of its own"),
        ("/", "", ("calls",), "a prefix of its own"),
        ("a//b", "", ("calls",), "a prefix of its own"),
        ("calls", "", ("calls",), "reports lie below"),
        ("calls/exports/", "", ("calls", "more"), "reports lie below"),
        ("results/calls/", "results/", ("calls",), "reports lie below"),
        ("results", "results/", ("calls",), "reports lie below"),
        ("exports/", "results/", ("reports",), "holds calls"),
    ],
)
def test_no_export_lies_where_reports_or_calls_do(
    prefix: str, results_prefix: str, sources: tuple[str, ...], why: str
) -> None:
    settings = S3Settings(results_prefix=results_prefix, source_buckets=sources)
    with pytest.raises(InvalidRequest, match=why):
        check_export_prefix(settings, "reports", prefix)


def test_an_export_may_lie_beside_the_reports() -> None:
    settings = S3Settings(source_buckets=("calls",))
    assert check_export_prefix(settings, "reports", "exports") == "exports/"
    assert check_export_prefix(settings, "reports", "calls-by-day/") == "calls-by-day/"
    with pytest.raises(InvalidRequest, match="WARMLINE_S3_RESULTS_BUCKET"):
        check_export_prefix(settings, "calls", "exports/")
    shared = S3Settings(source_buckets=("reports",), results_prefix="results/")
    assert check_export_prefix(shared, "reports", "results/exports") == "results/exports/"


def test_an_export_is_not_taken_for_reports(
    exports: Exports, s3_settings: S3Settings, s3_prefix: str, bucket: ExportBucket
) -> None:
    exports.put(1, "angry")
    exports.run()
    with closing(ObjectStore(s3_settings)) as store:
        store.put_report(f"{s3_prefix}calls/1.wav@etag-{'0' * 16}.json", b"{}")
        shelf = BucketShelf(store, s3_settings.results_bucket, s3_prefix)
        assert len(list(bucket.names(""))) >= 6
        assert [ref.place.rpartition("/")[2] for ref in shelf.refs()] == [f"1.wav@etag-{'0' * 16}.json"]
