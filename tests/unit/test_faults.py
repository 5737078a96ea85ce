"""Everything that the libraries beneath us can raise has a meaning for a job, and somebody decided it."""

from __future__ import annotations

import errno
import importlib
import inspect
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator

import av.error
import botocore.exceptions as boto
import pytest
import redis.exceptions
import soundfile
import torch
from pydantic import ValidationError
from urllib3.exceptions import ProtocolError

from warmline.jobs import errors
from warmline.jobs.errors import (
    EngineLost,
    InternalError,
    InvalidRequest,
    LedgerUnavailable,
    NetworkFault,
    NotAudio,
    ObjectChanged,
    ObjectForbidden,
    ObjectNotFound,
    OutOfMemory,
    PermanentError,
    ScratchUnusable,
    StoreMisconfigured,
    StoreUnavailable,
    TransientError,
    WarmlineError,
)
from warmline.jobs.faults import BY_CLASS, CLIENT_ERROR, LIBRARIES, classify, is_transient
from warmline.jobs.records import Source

# Where a library's exceptions are. What these modules only borrow from Python is Python's.
MODULES = (
    "botocore.exceptions", "boto3.exceptions", "s3transfer.exceptions", "urllib3.exceptions", "redis.exceptions",
    "kombu.exceptions", "amqp.exceptions", "billiard.exceptions", "soundfile", "av.error", "torch", "torch.cuda",
    "openvino._pyopenvino", "onnxruntime.capi.onnxruntime_pybind11_state", "pydantic_core",
)  # fmt: skip

# What stands for a whole library is decided class by class, and these roots are raised by nobody, or not to us.
ROOTS = {*LIBRARIES, "botocore.exceptions.StubAssertionError", "botocore.exceptions.UnStubbedResponseError"}
# pydantic's signals to itself, and of schemas: they are classes of our own modules at import time.
NEVER_RAISED = {"PydanticCustomError", "PydanticKnownError", "PydanticOmit", "PydanticUseDefault", "SchemaError",
                "PydanticSerializationUnexpectedValue"}  # fmt: skip


def qualified(kind: type[BaseException]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def exceptions_of(module_name: str) -> Iterator[type[BaseException]]:
    for name, found in inspect.getmembers(importlib.import_module(module_name), inspect.isclass):
        foreign = found.__module__.partition(".")[0] in {
            "builtins",
            "http",
            "email",
            "multiprocessing",
            "concurrent",
        }
        if issubclass(found, BaseException) and not issubclass(found, Warning) and not foreign and name[0] != "_":
            yield found


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of looking at torch's names
def test_every_exception_of_the_libraries_is_decided(module: str) -> None:
    found = [kind for kind in exceptions_of(module) if qualified(kind) not in ROOTS]
    undecided = {
        qualified(kind)
        for kind in found
        # A row of the library itself: that a subclass of OSError would be taken for the network is no decision.
        if not any(
            qualified(ancestor) in {*BY_CLASS, CLIENT_ERROR}
            and ancestor.__module__.partition(".")[0] == kind.__module__.partition(".")[0]
            for ancestor in kind.__mro__
        )
        and kind.__name__ not in NEVER_RAISED
    }
    assert found
    assert undecided == set()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_no_row_names_a_class_that_is_not_there() -> None:
    def there(name: str) -> bool:
        module, _, kind = name.rpartition(".")
        if name == "openvino._pyopenvino.GeneralFailure" or module == "torch.jit":
            return True  # found by the walk under another address
        return inspect.isclass(getattr(importlib.import_module(module), kind, None))

    assert [name for name in {**BY_CLASS, **LIBRARIES} if not there(name)] == []


def answer(code: str, status: int) -> boto.ClientError:
    return boto.ClientError(
        {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "GetObject",
    )


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("NoSuchKey", 404, ObjectNotFound),
        ("NoSuchBucket", 404, ObjectNotFound),
        ("NoSuchVersion", 404, ObjectNotFound),
        ("404", 404, ObjectNotFound),
        ("405", 405, ObjectNotFound),  # a delete marker
        ("AccessDenied", 403, ObjectForbidden),
        ("403", 403, ObjectForbidden),
        ("SomeStoresOwnWord", 403, ObjectForbidden),
        ("InvalidAccessKeyId", 403, ObjectForbidden),
        ("PreconditionFailed", 412, ObjectChanged),
        ("InvalidRange", 416, ObjectChanged),
        ("SlowDown", 503, StoreUnavailable),
        ("503", 503, StoreUnavailable),
        ("TooManyRequests", 429, StoreUnavailable),
        ("500", 500, StoreUnavailable),
        ("SomeStoresOwnWord", 507, StoreUnavailable),
        ("InternalError", 200, StoreUnavailable),  # S3 may say so after its header is out
        ("RequestTimeout", 400, StoreUnavailable),
        ("ExpiredToken", 400, StoreUnavailable),
        ("AuthorizationHeaderMalformed", 400, StoreMisconfigured),
        ("PermanentRedirect", 301, StoreMisconfigured),
        ("InvalidArgument", 400, InvalidRequest),
        ("", 0, StoreUnavailable),
    ],
)
def test_an_answer_of_the_store(code: str, status: int, expected: type[WarmlineError]) -> None:
    assert type(classify(answer(code, status))) is expected


def validation_error() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Source(bucket="", key="")
    return caught.value


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (boto.EndpointConnectionError(endpoint_url="http://x"), StoreUnavailable),
        (boto.ConnectTimeoutError(endpoint_url="http://x"), StoreUnavailable),
        (boto.ReadTimeoutError(endpoint_url="http://x"), StoreUnavailable),
        (boto.ConnectionClosedError(endpoint_url="http://x"), StoreUnavailable),
        (boto.ResponseStreamingError(error="cut"), StoreUnavailable),
        (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), StoreUnavailable),
        (boto.SSLError(endpoint_url="https://x", error="e"), StoreUnavailable),
        (ProtocolError("cut"), StoreUnavailable),
        (boto.NoCredentialsError(), ObjectForbidden),
        (boto.PartialCredentialsError(provider="p", cred_var="v"), ObjectForbidden),
        (boto.ParamValidationError(report="r"), InvalidRequest),
        (boto.InvalidRegionError(region_name="x y"), StoreMisconfigured),
        (boto.NoRegionError(), StoreMisconfigured),
        (boto.ProfileNotFound(profile="p"), StoreMisconfigured),
        (redis.exceptions.ConnectionError("x"), LedgerUnavailable),
        (redis.exceptions.OutOfMemoryError("x"), LedgerUnavailable),
        (redis.exceptions.ResponseError("x"), InternalError),
        (soundfile.LibsndfileError(1), NotAudio),
        (av.error.InvalidDataError(1, "x"), NotAudio),
        (av.error.MemoryError(1, "x"), OutOfMemory),
        (av.error.OSError(errno.ENOSPC, "x"), ScratchUnusable),
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemory),
        (torch.AcceleratorError("CUDA error: an illegal memory access"), EngineLost),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), OutOfMemory),
        (RuntimeError("can't start new thread"), OutOfMemory),
        (MemoryError(), OutOfMemory),
        (OSError(errno.ENOSPC, "No space left on device"), ScratchUnusable),
        (OSError(errno.EMFILE, "Too many open files"), OutOfMemory),
        (OSError(errno.EHOSTUNREACH, "No route to host"), NetworkFault),
        (FileNotFoundError(errno.ENOENT, "x"), InternalError),
        (ConnectionResetError(errno.ECONNRESET, "x"), NetworkFault),
        (TimeoutError("timed out"), NetworkFault),
        (socket.gaierror(socket.EAI_AGAIN, "x"), NetworkFault),
        (ssl.SSLError(errno.EIO, "a number of TLS's own"), NetworkFault),
        (validation_error(), InternalError),
        (ZeroDivisionError(), InternalError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value.__name__,
)
def test_what_an_error_stands_for(error: Exception, expected: type[WarmlineError]) -> None:
    assert type(classify(error)) is expected
    assert is_transient(error) is issubclass(expected, TransientError)


def test_an_error_of_ours_stays_as_it_is() -> None:
    for error in (ObjectNotFound("gone"), OutOfMemory()):
        assert classify(error) is error


def test_what_is_newer_than_the_table_is_what_its_library_stands_for() -> None:
    class Invented(redis.exceptions.RedisError):
        pass

    assert type(classify(Invented())) is LedgerUnavailable


def test_the_sentence_says_what_to_do_and_nothing_of_the_other_s_text() -> None:
    for secret in (
        redis.exceptions.ConnectionError("redis://:hunter2@host"),
        boto.EndpointConnectionError(endpoint_url="https://me:hunter2@host"),
        OSError(errno.ENOSPC, "hunter2", "/hunter2"),
        RuntimeError("hunter2"),
    ):
        assert "hunter2" not in classify(secret).message
        assert classify(secret).message.endswith(").")
    assert classify(OSError(errno.ENOSPC, "x")).message == (
        "The worker's disk is full or failing; make room in WARMLINE_WORKER_SCRATCH_DIR (ENOSPC)."
    )
    assert classify(answer("NoSuchBucket", 404), "s3://calls/a.wav").message == (
        "s3://calls/a.wav: there is no such bucket; check its name and WARMLINE_S3_ENDPOINT_URL (NoSuchBucket)."
    )


def test_every_error_of_ours_is_transient_or_permanent_and_has_a_code_of_its_own() -> None:
    kinds = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, WarmlineError) and kind is not WarmlineError
    ]
    assert all(issubclass(kind, TransientError) != issubclass(kind, PermanentError) for kind in kinds)
    assert len({kind.code for kind in kinds}) == len(kinds)


def test_asking_imports_nothing() -> None:
    code = "import sys, warmline.jobs.faults as f; f.classify(OSError(28, 'x')); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "av", "botocore", "redis", "soundfile"} & set(done.stdout.split()) == set()
