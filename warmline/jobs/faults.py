"""What can go wrong beneath us, and what each fault means for a job: the one table.

A row names another library's exception class and the error of ours that it stands for, whose root says whether the
job is tried again. Classes go by name and are looked up along an exception's line of descent, so that nothing
heavy is imported to ask about it. An object store's answers come as one class, `ClientError`, and are told apart
by S3's error codes.

A class that no row names is a bug of ours, or of that library: InternalError, which is permanent. In a library of
`LIBRARIES` it is what the library's own root class stands for, until a row decides; a test finds such a class.
"""

from __future__ import annotations

import errno
from typing import Final

from warmline.jobs.errors import (
    EngineLost,
    InternalError,
    InvalidRequest,
    LedgerUnavailable,
    ModelUnusable,
    NetworkFault,
    NotAudio,
    ObjectChanged,
    ObjectForbidden,
    ObjectNotFound,
    OutOfMemory,
    ScratchUnusable,
    StoreMisconfigured,
    StoreUnavailable,
    TimedOut,
    TransientError,
    WarmlineError,
    WorkerLost,
)

Failure = type[WarmlineError]

# The store's answer -> our error. Names are S3's error codes, numbers are HTTP statuses without a body.
_ANSWERS: Final[tuple[tuple[Failure, str], ...]] = (
    # A delete marker answers 405, and InvalidVersionId is how some stores say NoSuchVersion.
    (ObjectNotFound, "NoSuchKey NoSuchBucket NoSuchVersion InvalidVersionId MethodNotAllowed 404 405 410"),
    (ObjectForbidden, "AccessDenied AccountProblem AllAccessDisabled InvalidAccessKeyId InvalidObjectState"),
    (ObjectForbidden, "InvalidToken RequestTimeTooSkewed SignatureDoesNotMatch 401 403"),
    (ObjectChanged, "PreconditionFailed InvalidRange 412 416"),
    (
        StoreUnavailable,
        "BandwidthLimitExceeded InternalError OperationAborted RequestLimitExceeded RequestTimeout",
    ),
    (StoreUnavailable, "ServiceUnavailable SlowDown Throttling ThrottlingException TooManyRequests"),
    (StoreUnavailable, "ConditionalRequestConflict 408 409 425 429"),
    (StoreUnavailable, "BadDigest IncompleteBody XAmzContentSHA256Mismatch"),  # damaged on its way
    (StoreUnavailable, "ExpiredToken"),  # temporary credentials are renewed while we wait
    (StoreMisconfigured, "AuthorizationHeaderMalformed PermanentRedirect TemporaryRedirect 301 307"),  # elsewhere
    (StoreMisconfigured, "IllegalLocationConstraintException InvalidBucketName NotImplemented 501"),
)

# (module, our error, its classes). A class of a narrower row wins over its ancestors wherever it stands.
_CLASSES: Final[tuple[tuple[str, Failure, str], ...]] = (
    # botocore: no usable answer
    ("botocore.exceptions", StoreUnavailable, "HTTPClientError ConnectionError IncompleteReadError ChecksumError"),
    ("botocore.exceptions", StoreUnavailable, "FlexibleChecksumError CapacityNotAvailableError"),
    (
        "botocore.exceptions",
        StoreUnavailable,
        "MetadataRetrievalError CredentialRetrievalError TokenRetrievalError",
    ),
    ("botocore.exceptions", ObjectForbidden, "NoCredentialsError PartialCredentialsError UnknownCredentialError"),
    (
        "botocore.exceptions",
        ObjectForbidden,
        "NoAuthTokenError RefreshWithMFAUnsupportedError SSOError LoginError",
    ),
    ("botocore.exceptions", InvalidRequest, "ParamValidationError ValidationError MissingParametersError"),
    # botocore: its configuration, its models of services, its stubs
    ("botocore.exceptions", StoreMisconfigured, "InvalidRegionError UndefinedModelAttributeError ConfigNotFound"),
    ("botocore.exceptions", StoreMisconfigured, "AliasConflictParameterError ApiVersionNotFoundError"),
    (
        "botocore.exceptions",
        StoreMisconfigured,
        "AwsChunkedWrapperError BaseEndpointResolverError ConfigParseError",
    ),
    ("botocore.exceptions", StoreMisconfigured, "DataNotFoundError EndpointProviderError EndpointVariantError"),
    ("botocore.exceptions", StoreMisconfigured, "InfiniteLoopConfigError InvalidChecksumConfigError"),
    ("botocore.exceptions", StoreMisconfigured, "InvalidConfigError InvalidDNSNameError InvalidDefaultsMode"),
    ("botocore.exceptions", StoreMisconfigured, "InvalidEndpointConfigurationError InvalidExpressionError"),
    ("botocore.exceptions", StoreMisconfigured, "InvalidEndpointDiscoveryConfigurationError"),
    ("botocore.exceptions", StoreMisconfigured, "InvalidHostLabelError InvalidIMDSEndpointError"),
    ("botocore.exceptions", StoreMisconfigured, "InvalidIMDSEndpointModeError InvalidMaxRetryAttemptsError"),
    ("botocore.exceptions", StoreMisconfigured, "InvalidProxiesConfigError InvalidRetryConfigurationError"),
    ("botocore.exceptions", StoreMisconfigured, "InvalidRetryModeError InvalidS3AddressingStyleError"),
    ("botocore.exceptions", StoreMisconfigured, "InvalidS3UsEast1RegionalEndpointConfigError"),
    ("botocore.exceptions", StoreMisconfigured, "InvalidSTSRegionalEndpointsConfigError MD5UnavailableError"),
    (
        "botocore.exceptions",
        StoreMisconfigured,
        "MissingDependencyException NoRegionError OperationNotPageableError",
    ),
    ("botocore.exceptions", StoreMisconfigured, "PaginationError ProfileNotFound ServiceNotInRegionError"),
    ("botocore.exceptions", StoreMisconfigured, "StubResponseError UnknownClientMethodError UnknownEndpointError"),
    ("botocore.exceptions", StoreMisconfigured, "UnknownFIPSEndpointError UnknownRegionError UnknownServiceError"),
    ("botocore.exceptions", StoreMisconfigured, "UnknownServiceStyle UnknownSignatureVersionError"),
    ("botocore.exceptions", StoreMisconfigured, "UnknownTokenProviderError UnseekableStreamError"),
    ("botocore.exceptions", StoreMisconfigured, "UnsupportedOutpostResourceError UnsupportedS3ArnError"),
    ("botocore.exceptions", StoreMisconfigured, "UnsupportedS3AccesspointConfigurationError"),
    ("botocore.exceptions", StoreMisconfigured, "UnsupportedS3ConfigurationError UnsupportedS3ControlArnError"),
    ("botocore.exceptions", StoreMisconfigured, "UnsupportedS3ControlConfigurationError"),
    ("botocore.exceptions", StoreMisconfigured, "UnsupportedServiceProtocolsError"),
    ("botocore.exceptions", StoreMisconfigured, "UnsupportedSignatureVersionError WaiterConfigError WaiterError"),
    # boto3 and s3transfer, for uploads
    ("boto3.exceptions", StoreUnavailable, "RetriesExceededError S3TransferFailedError S3UploadFailedError"),
    ("boto3.exceptions", StoreMisconfigured, "InvalidCrtTransferConfigError NoVersionFound ResourceLoadException"),
    ("boto3.exceptions", StoreMisconfigured, "ResourceNotExistsError UnknownAPIVersionError"),
    ("boto3.exceptions", InternalError, "DynamoDBNeedsConditionError DynamoDBNeedsKeyConditionError"),
    ("boto3.exceptions", InternalError, "DynamoDBOperationNotSupportedError"),
    ("s3transfer.exceptions", StoreUnavailable, "RetriesExceededError S3CopyFailedError S3DownloadFailedError"),
    ("s3transfer.exceptions", StoreUnavailable, "S3UploadFailedError FatalError TransferNotDoneError"),
    ("s3transfer.exceptions", ObjectChanged, "S3ValidationError"),
    ("s3transfer.exceptions", InternalError, "InvalidSubscriberMethodError"),
    ("concurrent.futures._base", StoreUnavailable, "CancelledError"),  # s3transfer's word for it
    # urllib3: from the middle of a body
    (
        "urllib3.exceptions",
        StoreUnavailable,
        "TimeoutError PoolError ProtocolError IncompleteRead InvalidChunkLength",
    ),
    (
        "urllib3.exceptions",
        StoreUnavailable,
        "DecodeError HeaderParsingError InvalidHeader ResponseError SSLError",
    ),
    ("urllib3.exceptions", StoreUnavailable, "BodyNotHttplibCompatible ProxyError UnrewindableBodyError"),
    ("urllib3.exceptions", StoreMisconfigured, "LocationValueError ProxySchemeUnsupported"),
    ("urllib3.exceptions", InternalError, "TimeoutStateError"),
    # redis: what a restart, a failover or a full memory look like, and wrong credentials until they are mended
    ("redis.exceptions", LedgerUnavailable, "ConnectionError TimeoutError OutOfMemoryError ReadOnlyError"),
    ("redis.exceptions", LedgerUnavailable, "ClusterError ClusterDownError TryAgainError AskError WatchError"),
    ("redis.exceptions", LedgerUnavailable, "LockError ExecAbortError NoScriptError NoPermissionError"),
    ("redis.exceptions", LedgerUnavailable, "InvalidResponse PubSubError RedisClusterException"),
    ("redis.exceptions", InternalError, "AuthenticationWrongNumberOfArgsError ChildDeadlockedError DataError"),
    ("redis.exceptions", InternalError, "ClusterCrossSlotError CrossSlotTransactionError IncorrectPolicyType"),
    ("redis.exceptions", InternalError, "InvalidPipelineStack ModuleError NoSuchFieldsetError"),
    # kombu, and what it takes from amqp; billiard
    ("kombu.exceptions", LedgerUnavailable, "OperationalError LimitExceeded InconsistencyError HttpError"),
    ("kombu.exceptions", LedgerUnavailable, "BatchPublishError"),
    ("kombu.exceptions", InternalError, "MessageStateError NotBoundError SerializationError"),
    ("kombu.exceptions", InternalError, "SerializerNotInstalled VersionMismatch"),
    ("amqp.exceptions", LedgerUnavailable, "ConnectionError ChannelError MessageNacked"),
    ("billiard.exceptions", TimedOut, "SoftTimeLimitExceeded TimeLimitExceeded"),
    ("billiard.exceptions", WorkerLost, "WorkerLostError Terminated"),
    ("billiard.exceptions", InternalError, "CoroStop RestartFreqExceeded"),
    # soundfile and PyAV: they read one local file, and what they cannot read is no audio to us
    ("soundfile", NotAudio, "SoundFileError"),
    ("av.error", OutOfMemory, "MemoryError"),
    (
        "av.error",
        NotAudio,
        "InvalidDataError EOFError LookupError NotImplementedError PatchWelcomeError ExternalError",
    ),
    ("av.error", NotAudio, "InputChangedError OutputChangedError ExperimentalError UnknownError OverflowError"),
    # a file that names addresses: nothing is fetched for it
    (
        "av.error",
        NotAudio,
        "HTTPError HTTPClientError BrokenPipeError ConnectionAbortedError ConnectionRefusedError",
    ),
    ("av.error", NotAudio, "ConnectionResetError TimeoutError"),
    ("av.error", InternalError, "ArgumentError BufferTooSmallError BugError ExitError PyAVCallbackError"),
    (
        "av.error",
        InternalError,
        "UndefinedError BlockingIOError ChildProcessError FileExistsError FileNotFoundError",
    ),
    ("av.error", InternalError, "InterruptedError IsADirectoryError NotADirectoryError PermissionError"),
    ("av.error", InternalError, "ProcessLookupError OSError"),
    # what runs the models
    ("torch", OutOfMemory, "OutOfMemoryError"),
    ("torch", EngineLost, "AcceleratorError"),
    ("torch.cuda", EngineLost, "CudaError"),
    ("torch.cuda", InternalError, "DeferredCudaCallError"),
    ("torch", InternalError, "FatalError"),
    ("torch.jit", InternalError, "Error"),
    ("torch._C", InternalError, "_LinAlgError"),
    ("openvino._pyopenvino", EngineLost, "GeneralFailure"),
    ("openvino._pyopenvino", ModelUnusable, "InitializationFailure NotImplementedFailure OpConversionFailure"),
    ("openvino._pyopenvino", ModelUnusable, "OpValidationFailure"),
    ("onnxruntime.capi.onnxruntime_pybind11_state", EngineLost, "DeviceReset EngineError"),
    ("onnxruntime.capi.onnxruntime_pybind11_state", InternalError, "Fail InvalidArgument RuntimeException EPFail"),
    ("onnxruntime.capi.onnxruntime_pybind11_state", InternalError, "ModelLoadCanceled ModelLoaded"),
    (
        "onnxruntime.capi.onnxruntime_pybind11_state",
        ModelUnusable,
        "InvalidGraph InvalidProtobuf NoModel NoSuchFile",
    ),
    ("onnxruntime.capi.onnxruntime_pybind11_state", ModelUnusable, "ModelRequiresCompilation NotFound"),
    ("onnxruntime.capi.onnxruntime_pybind11_state", ModelUnusable, "NotImplemented"),
    # Python's own: an OSError is asked for its number first
    ("builtins", OutOfMemory, "MemoryError"),
    ("builtins", NetworkFault, "ConnectionError TimeoutError"),
    ("socket", NetworkFault, "gaierror herror"),
    ("ssl", NetworkFault, "SSLError"),
    ("http.client", NetworkFault, "HTTPException"),
    # a report of ours that does not fit its own schema
    ("json.decoder", InternalError, "JSONDecodeError"),
    ("pydantic_core._pydantic_core", InternalError, "ValidationError PydanticSerializationError"),
)

# A library's root class -> what a class means that is newer than this table.
LIBRARIES: Final[dict[str, Failure]] = {
    "botocore.exceptions.BotoCoreError": StoreMisconfigured,
    "boto3.exceptions.Boto3Error": StoreMisconfigured,
    "urllib3.exceptions.HTTPError": StoreUnavailable,
    "redis.exceptions.RedisError": LedgerUnavailable,
    "redis.exceptions.ResponseError": InternalError,
    "kombu.exceptions.KombuError": LedgerUnavailable,
    "amqp.exceptions.AMQPError": LedgerUnavailable,
    "av.error.FFmpegError": NotAudio,
}

CLIENT_ERROR: Final = "botocore.exceptions.ClientError"
BY_CODE: Final[dict[str, Failure]] = {code: ours for ours, codes in _ANSWERS for code in codes.split()}
BY_CLASS: Final[dict[str, Failure]] = {
    f"{module}.{name}": ours for module, ours, names in _CLASSES for name in names.split()
}
BY_NUMBER: Final[dict[int, Failure]] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO), ScratchUnusable),
    **dict.fromkeys((errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN), OutOfMemory),
    **dict.fromkeys((errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EHOSTDOWN), NetworkFault),
}

# How libraries without a class for it say that there was no memory or no thread to be had.
_NO_MEMORY: Final = (
    "out of memory", "can't allocate memory", "failed to allocate memory", "could not create a primitive",
    "cublas_status_alloc_failed", "cudnn_status_alloc_failed", "can't start new thread",
)  # fmt: skip

# By the store's answer, where the error's own sentence would not help the reader.
SENTENCES: Final[dict[str, str]] = {
    "NoSuchBucket": "there is no such bucket; check its name and WARMLINE_S3_ENDPOINT_URL",
    "NoSuchVersion": "there is no such version of the object; leave version_id out to take the current one",
    "InvalidVersionId": "there is no such version of the object; leave version_id out to take the current one",
    "InvalidObjectState": "the object is archived; restore it to a readable storage class first",
    "RequestTimeTooSkewed": "this machine's clock is wrong by more than the store allows; set it",
    "NotImplemented": "the store cannot do this; Warmline needs If-Match and If-None-Match",
}
_ACCELERATOR: Final = "the accelerator failed while it scored this call; see the log of the worker and the driver"
MAX_CODE = 64  # of a code that a store made up


def classify(error: BaseException, what: str = "") -> WarmlineError:
    """The error of ours that `error` stands for; one of ours stays as it is.

    Its sentence says what to do, and holds nothing of the other's text, where addresses and credentials may be.
    `what` is the object or bucket it is about, for the beginning of the sentence.
    """
    if isinstance(error, WarmlineError):
        return error
    ours, name, sentence = _decide(error)
    if what:
        return ours(f"{what}: {sentence} ({name}).")
    return ours(f"{sentence[0].upper()}{sentence[1:]} ({name}).")


def is_transient(error: BaseException) -> bool:
    """True for what may pass: the job is tried again."""
    return isinstance(classify(error), TransientError)


def _decide(error: BaseException) -> tuple[Failure, str, str]:
    """Our error, the other's name for it, and a sentence without capital and full stop."""
    lineage = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]
    if CLIENT_ERROR in lineage:
        ours, code = _of_answer(getattr(error, "response", {}))
        return ours, code, SENTENCES.get(code) or _own_sentence(ours)
    name = type(error).__name__
    # Of a class of their own, as with TLS, the numbers are other ones.
    if (
        isinstance(error, OSError)
        and type(error).__module__ in {"builtins", "av.error"}
        and error.errno in BY_NUMBER
    ):
        ours, name = BY_NUMBER[error.errno], errno.errorcode[error.errno]
    elif _says_no_memory(error, lineage[0]):
        ours = OutOfMemory
    else:
        rows = BY_CLASS | LIBRARIES
        ours = next((rows[kind] for kind in lineage if kind in rows), InternalError)
    return ours, name, _ACCELERATOR if name == "AcceleratorError" else _own_sentence(ours)


def _says_no_memory(error: BaseException, kind: str) -> bool:
    by_word = isinstance(error, RuntimeError) or kind.startswith("onnxruntime.")
    return by_word and any(sign in str(error).lower() for sign in _NO_MEMORY)


def _of_answer(response: dict[str, dict[str, object]]) -> tuple[Failure, str]:
    """By code, then by status, then by the status's hundred: stores invent codes of their own."""
    code = str(response.get("Error", {}).get("Code", ""))[:MAX_CODE]
    status = int(str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)))
    known = BY_CODE.get(code) or BY_CODE.get(str(status))
    if known is not None:
        return known, code
    if status >= 500 or (code.isdigit() and int(code) >= 500):
        return StoreUnavailable, code
    return InvalidRequest if status >= 400 else StoreUnavailable, code


def _own_sentence(ours: Failure) -> str:
    sentence = ours().message.rstrip(".")
    return sentence[0].lower() + sentence[1:]
