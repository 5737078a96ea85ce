"""The wire forms of presigned uploads."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from warmline.jobs.records import MAX_METADATA, BucketName, ObjectKey, Record

MAX_METADATA_BYTES: Final = 2048  # of all names and values, as S3 has it

_RECORDING_TYPES = re.compile(r"(audio|video)/[A-Za-z0-9.+\-]{1,64}(;[ -~]{1,64})?|application/(ogg|octet-stream)")
_METADATA_NAME = re.compile(r"[a-z0-9][a-z0-9_\-]{0,63}")
_METADATA_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")


def _is_for_recordings(content_type: str) -> str:
    if not _RECORDING_TYPES.fullmatch(content_type):
        raise ValueError("a recording is audio/*, video/*, application/ogg or application/octet-stream")
    return content_type


def _fits_headers(metadata: dict[str, str]) -> dict[str, str]:
    for name, value in metadata.items():
        if not _METADATA_NAME.fullmatch(name):
            raise ValueError(f"{name[:64]!r} is no name for a header: small letters, digits, _ and -, at most 64")
        if not _METADATA_VALUE.fullmatch(value):
            raise ValueError(
                f"the value of {name!r} is not printable ASCII, which is all that S3 takes in a header; "
                "encode it, in Base64 for example"
            )
    if sum(len(name) + len(value) for name, value in metadata.items()) > MAX_METADATA_BYTES:
        raise ValueError(f"names and values have more than {MAX_METADATA_BYTES:,} bytes, which S3 does not take")
    return metadata


class UploadRequest(Record):
    """One object that somebody without keys is to upload: `name`, or `key`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "call.wav", "size_bytes": 960044, "content_type": "audio/wav"},
                {"name": "call.wav", "method": "post", "metadata": {"campaign": "spring"}, "expires_seconds": 60},
                {"key": "uploads/2026-05-01/mia_sales_4711.wav", "method": "post", "size_bytes": 50_000_000},
            ]
        }
    )

    name: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = Field(
        None,
        description="a file's name: the key, below WARMLINE_UPLOADS_PREFIX, ends with it and is new",
    )
    key: ObjectKey | None = Field(None, description="a key of your own below WARMLINE_UPLOADS_PREFIX")
    bucket: BucketName | None = Field(None, description="one of WARMLINE_S3_SOURCE_BUCKETS; without it the first")
    method: Literal["put", "post"] = Field(
        "put",
        description="put: the file is the request's body, and never replaces an object; post: a form, as web "
        "pages send it, of any size up to the limit",
    )
    size_bytes: int | None = Field(
        None,
        gt=0,
        description="put: exactly as many, and needed; post: at most, WARMLINE_UPLOADS_MAX_BYTES if not given",
    )
    content_type: Annotated[str, AfterValidator(_is_for_recordings)] | None = Field(
        None, description="the only Content-Type that the store then takes; without it any"
    )
    metadata: Annotated[dict[str, str], Field(max_length=MAX_METADATA), AfterValidator(_fits_headers)] = Field(
        default_factory=dict, description="the object's own (x-amz-meta-), for the rules: ASCII alone"
    )
    expires_seconds: int | None = Field(
        None,
        ge=1,
        description="how long the upload may begin; at most, and without it, WARMLINE_UPLOADS_EXPIRES_SECONDS",
    )

    @model_validator(mode="after")
    def _says_enough(self) -> Self:
        if (self.name is None) == (self.key is None):
            raise ValueError("give one of: name, key")
        if self.method == "put" and self.size_bytes is None:
            raise ValueError(
                "a PUT is signed for one size: give size_bytes, or method post, which takes any up to a limit"
            )
        return self


class UploadPlace(BaseModel):
    """A signed request: whoever has it may send it until it expires, without any key. Treat it as a secret."""

    method: Literal["PUT", "POST"]
    url: str = Field(description="where to send it; the store's address, not the API's")
    headers: dict[str, str] = Field(description="of a PUT: all have to be sent as they are")
    fields: dict[str, str] = Field(description="of a POST: the form's fields, before its last one, `file`")
    bucket: str
    key: str
    expires_at: datetime
    max_bytes: int = Field(description="more are refused; a PUT has exactly as many")
    rule: str | None = Field(description="the rule that makes a job of it; null: none does, it is only stored")
