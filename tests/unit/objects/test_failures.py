"""What botocore raises leaves the store as an error of ours."""

from __future__ import annotations

import botocore.exceptions as boto
import pytest
from urllib3.exceptions import ProtocolError

from warmline.jobs.errors import ObjectNotFound, StoreUnavailable
from warmline.objects.failures import store_errors

URI = "s3://calls/a.wav"


def test_the_store_s_errors_are_translated_and_the_cause_is_kept() -> None:
    with (
        pytest.raises(
            ObjectNotFound, match=r"s3://calls/a\.wav: there is no such object.*\(NoSuchKey\)"
        ) as caught,
        store_errors(URI),
    ):
        raise boto.ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
    assert isinstance(caught.value.__cause__, boto.ClientError)

    with pytest.raises(StoreUnavailable), store_errors(URI):
        raise ProtocolError("cut")


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(ZeroDivisionError), store_errors(URI):
        raise ZeroDivisionError
