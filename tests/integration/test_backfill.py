"""Rules applied to reports in a real S3 and a real Redis: once, again, and while others write."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest
import redis
from pydantic import SecretStr

from config.settings import RedisSettings, S3Settings, Settings
from tests.made_reports import made_side, make_report
from tests.unit.calls.categories.category_files import rules_of
from warmline.calls.categories.applying import apply_to_bucket, apply_to_redis
from warmline.calls.categories.backfill import Change, Outcome
from warmline.calls.categories.remembered import NOTE_NAME
from warmline.calls.categories.rewriters import Rewriting
from warmline.calls.categories.rewriting import BucketRewriter
from warmline.calls.categories.rules import CategoryRules
from warmline.calls.report import Report
from warmline.calls.stored_reports import BucketShelf, ReportRef
from warmline.jobs import keys
from warmline.jobs.errors import InternalError, ObjectChanged
from warmline.jobs.kept_reports import KeptReports
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import Job, ReportLocation, Source
from warmline.objects.store import ObjectStore

REPORTS = 12


def rules(at_least: float = 0.5) -> CategoryRules:
    return rules_of(
        '[[category]]\nname = "calm"\n[[category.none]]\nkind = "flag"\nflag = "truncated"\n'
        '[[category]]\nname = "angry"\n[[category.all]]\nkind = "emotion"\nemotion = "angry"\n'
        f"at_least = {at_least}\n"
    )


def report(number: int = 0) -> Report:
    """The odd ones are angry."""
    customer = made_side("customer", windows=[(0, 5000, {"angry": 0.7 if number % 2 else 0.1})])
    sides = made_side("agent", windows=[]), customer
    return make_report(*sides, duration_ms=9000, key=f"{number}.wav", job_id=f"{number:032x}")


@pytest.fixture
def settings(s3_settings: S3Settings, s3_prefix: str, redis_url: str) -> Settings:
    s3 = s3_settings.model_copy(update={"results_prefix": s3_prefix})
    return Settings(s3=s3, redis=RedisSettings(url=SecretStr(redis_url)))


@pytest.fixture
def store(settings: Settings) -> Iterator[ObjectStore]:
    """With reports, and with what may lie beside them."""
    prefix = settings.s3.results_prefix
    with closing(ObjectStore(settings.s3)) as store:
        for number in range(REPORTS):
            assert store.put_report(f"{prefix}{number:02}@e-d.json", report(number).model_dump_json().encode())
        store.put_report(f"{prefix}broken@e-d.json", b"{}")
        store.put_report(f"{prefix}00@e-d.npy", b"no report")
        store.check_writable()
        yield store


def apply(settings: Settings, asked: CategoryRules, prefix: str = "", **more: object) -> dict[str, Outcome]:
    """Each outcome by its report's name."""
    outcomes: list[Outcome] = []
    below = settings.s3.results_prefix + prefix
    apply_to_bucket(settings, asked, below, outcomes.append, **({"dry_run": False} | more))  # type: ignore[arg-type]
    by_name = {outcome.place.rpartition("/")[2].partition("@")[0]: outcome for outcome in outcomes}
    assert len(by_name) == len(outcomes)
    return by_name


def stored(settings: Settings, store: ObjectStore, number: int) -> Report:
    key = f"{settings.s3.results_prefix}{number:02}@e-d.json"
    body = store.get_report(ReportLocation(bucket=settings.s3.results_bucket, key=key))
    return Report.model_validate_json(body)


def test_reports_in_s3(settings: Settings, store: ObjectStore) -> None:
    asked = rules()
    dry = apply(settings, asked, dry_run=True)
    assert dry["03"].after == ("calm", "angry")
    assert stored(settings, store, 3) == report(3)
    assert store.get_note(NOTE_NAME) is None

    first = apply(settings, asked)
    assert {name for name, outcome in first.items() if outcome.change is Change.WRITTEN} == first.keys() - {
        "broken"
    }
    assert first["broken"].change is Change.UNREADABLE
    assert "no report" in first["broken"].reason
    for number in range(REPORTS):
        made = asked.match(report(number))
        assert stored(settings, store, number) == report(number).model_copy(update={"categories": made})
    # Again: no report is read but the broken one, and what matches is known all the same
    again = apply(settings, asked)
    assert {name for name, outcome in again.items() if outcome.change is Change.REMEMBERED} == first.keys() - {
        "broken"
    }
    assert {name: outcome.after for name, outcome in again.items()} == {
        name: outcome.after for name, outcome in first.items()
    }
    # and a third time, also after a run over some of them alone
    assert {each.change for each in apply(settings, asked, "0").values()} == {Change.REMEMBERED}
    third = apply(settings, asked)
    assert {name for name, each in third.items() if each.change is Change.REMEMBERED} == first.keys() - {"broken"}
    # Without the note they are read, and not written
    store.put_note(NOTE_NAME, b"damaged")
    read = apply(settings, asked)
    assert {name for name, outcome in read.items() if outcome.change is Change.CURRENT} == first.keys() - {
        "broken"
    }
    assert apply(settings, asked)["00"].change is Change.REMEMBERED
    # Other rules
    other = apply(settings, rules(0.9), "0")  # only reports whose names begin so
    assert {outcome.change for outcome in other.values()} == {Change.WRITTEN}
    assert sorted(other) == [f"0{number}" for number in range(10)]
    assert (other["03"].before, other["03"].after) == (("calm", "angry"), ("calm",))
    assert stored(settings, store, 11).categories == asked.match(report(11))
    # and a part that was done is remembered when the rest is
    rest = apply(settings, rules(0.9))
    assert {name: rest[name].change for name in ("03", "11")} == {"03": Change.REMEMBERED, "11": Change.WRITTEN}


def test_by_several_processes(settings: Settings, store: ObjectStore) -> None:
    outcomes = apply(settings, rules(), processes=2)
    assert {name for name, each in outcomes.items() if each.change is Change.WRITTEN} == outcomes.keys() - {
        "broken"
    }
    for number in range(REPORTS):
        assert stored(settings, store, number).categories == rules().match(report(number))
    assert multiprocessing.active_children() == []


def test_a_report_that_was_replaced_after_it_was_listed_stays(settings: Settings, store: ObjectStore) -> None:
    s3 = settings.s3
    found = {ref.place: ref for ref in BucketShelf(store, s3.results_bucket, s3.results_prefix).refs()}
    place = f"s3://{s3.results_bucket}/{s3.results_prefix}01@e-d.json"
    key = place.removeprefix(f"s3://{s3.results_bucket}/")
    etag = store.replace_report(key, report(5).model_dump_json().encode(), found[place].version)
    assert etag != found[place].version
    rewriter = BucketRewriter(store, s3.results_bucket, rules(), dry_run=False)
    missed = rewriter.rewrite(found[place])
    assert missed.change is Change.MISSED
    assert "meanwhile" in missed.reason
    assert stored(settings, store, 1) == report(5)
    with pytest.raises(ObjectChanged):
        store.replace_report(f"{s3.results_prefix}gone@e-d.json", b"{}", etag)
    gone = ReportRef(place=f"s3://{s3.results_bucket}/{s3.results_prefix}gone@e-d.json", version=etag)
    assert rewriter.rewrite(gone).change is Change.MISSED
    assert rewriter.rewrite(ReportRef(place=place, version=etag)).change is Change.WRITTEN


def test_a_process_that_dies_ends_the_run_with_a_word(settings: Settings, store: ObjectStore) -> None:
    refs = list(BucketShelf(store, settings.s3.results_bucket, settings.s3.results_prefix).refs())
    rewriting = Rewriting(settings=settings.s3, rules=rules(), dry_run=True)
    outcomes = rewriting.over(itertools.cycle(refs), store, processes=2)
    assert next(outcomes).change in {Change.WRITTEN, Change.UNREADABLE}
    victim = multiprocessing.active_children()[0]
    victim.kill()
    with pytest.raises(InternalError, match="run it again"):
        for _ in outcomes:
            pass
    assert multiprocessing.active_children() == []


def test_a_run_that_is_given_up_leaves_no_process(settings: Settings, store: ObjectStore) -> None:
    refs = list(BucketShelf(store, settings.s3.results_bucket, settings.s3.results_prefix).refs())
    rewriting = Rewriting(settings=settings.s3, rules=rules(), dry_run=True)
    outcomes = rewriting.over(itertools.cycle(refs), store, processes=2)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


# Redis


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    with closing(Ledger.connect(settings.redis, settings.jobs)) as ledger:
        yield ledger


def keep(ledger: Ledger, number: int, key: str | None) -> str:
    """A job whose report Redis keeps, and S3 too where it has a key."""
    job = Job(
        id=f"{number:032x}", source=Source(bucket="calls", key=f"{number}.wav"), created_at=datetime.now(UTC)
    )
    ledger.create(job)
    ledger.claim(job, "w/1")
    location = ReportLocation(in_redis=True, bucket="reports" if key else None, key=key)
    assert ledger.succeed(job.id, 1, location, report(number).model_dump_json())
    return job.id


def test_reports_in_redis(settings: Settings, ledger: Ledger) -> None:
    asked = rules()
    ids = [keep(ledger, number, key) for number, key in enumerate([None, "a/1@e-d.json", "b/2@e-d.json"])]
    client = redis.Redis.from_url(settings.redis.url.get_secret_value(), decode_responses=True)
    with closing(client):
        client.expire(keys.report(ids[0]), 1000)
        client.set(keys.report("f" * 32), "no report", ex=1000)  # of a job that is forgotten
        outcomes: list[Outcome] = []
        apply_to_redis(settings, asked, "", outcomes.append, dry_run=True)
        assert len(outcomes) == 4
        assert ledger.report(ids[1]) == report(1).model_dump_json().encode()

        apply_to_redis(settings, asked, "a/", outcomes.append, dry_run=False)
        assert [outcome.place for outcome in outcomes[4:]] == [f"redis:{ids[1]}"]
        apply_to_redis(settings, asked, "", outcomes.append, dry_run=False)
        by_place = {outcome.place.removeprefix("redis:"): outcome.change for outcome in outcomes[5:]}
        assert by_place == {
            ids[0]: Change.WRITTEN, ids[1]: Change.CURRENT, ids[2]: Change.WRITTEN, "f" * 32: Change.UNREADABLE,
        }  # fmt: skip
        for number, job_id in enumerate(ids):
            body = ledger.report(job_id)
            assert body is not None
            made = asked.match(report(number))
            assert Report.model_validate_json(body) == report(number).model_copy(update={"categories": made})
        assert 0 < client.ttl(keys.report(ids[0])) <= 1000  # as long as before
        assert client.ttl(keys.report(ids[1])) > 1000


def test_a_report_in_redis_that_was_replaced_or_forgotten_meanwhile_is_left_so(
    settings: Settings, ledger: Ledger
) -> None:
    job_id = keep(ledger, 1, None)
    with closing(KeptReports.connect(settings.redis, settings.jobs)) as kept:
        (found,) = kept.read()
        assert (found.job_id, found.location) == (job_id, ReportLocation(in_redis=True))
        assert not kept.replace(job_id, old=b"another", new=b"new")
        assert not kept.replace("e" * 32, old=found.body, new=b"new")
        assert ledger.report(job_id) == found.body
        assert ledger.report("e" * 32) is None
        assert kept.replace(job_id, old=found.body, new="é".encode())
        assert ledger.report(job_id) == "é".encode()


def test_many_reports_in_redis(settings: Settings) -> None:
    client = redis.Redis.from_url(settings.redis.url.get_secret_value())
    with closing(client):
        pipeline = client.pipeline()
        for number in range(240):
            pipeline.set(keys.report(f"{number:032x}"), report(number).model_dump_json(), ex=1000)
        pipeline.execute()
    outcomes: list[Outcome] = []
    apply_to_redis(settings, rules(), "", outcomes.append, dry_run=False)
    assert {outcome.change for outcome in outcomes} == {Change.WRITTEN}
    assert len({outcome.place for outcome in outcomes}) == 240
