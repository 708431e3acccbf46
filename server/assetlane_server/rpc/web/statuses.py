"""A status in the forms of the protocols: gRPC-Web's trailers, Connect's JSON, google.rpc.Status for REST."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote

import grpc
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from assetlane_server.model.errors import Refusal
from assetlane_server.rpc.errors import answer_to
from assetlane_server.rpc.web.calls import CallAborted, Trailers, header_value

DETAILS = "grpc-status-details-bin"
# Of the Connect protocol: https://connectrpc.com/docs/protocol#error-codes
_HTTP = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
# Where HTTP has a status that says more than the code does.
_HTTP_OF_REASONS = {
    "MESSAGE_TOO_LARGE": 413,
    "METHOD_UNKNOWN": 404,
    "HTTP_METHOD_REFUSED": 405,
    "CONTENT_TYPE_REFUSED": 415,
    "ENCODING_REFUSED": 415,
    "HOST_REFUSED": 421,
    "HEAD_TOO_LARGE": 431,
    "MESSAGE_LATE": 408,
}
# RFC 3986's unreserved and what gRPC leaves as it is; `%` always is escaped.
_UNESCAPED = " !\"#$&'()*+,/:;<=>?@[\\]^_`{|}~-."
_TYPES: Mapping[str, Any] = {  # of details, by name
    f"google.rpc.{name}": getattr(error_details_pb2, name)
    for name in error_details_pb2.DESCRIPTOR.message_types_by_name
}


@dataclass(frozen=True)
class Failure:
    """A call that failed."""

    code: grpc.StatusCode
    message: str
    trailers: Trailers
    known_reason: str = ""

    @classmethod
    def of(cls, aborted: CallAborted) -> "Failure":
        """Returns what a handler or the interceptor ended a call with."""
        return cls(aborted.code, aborted.message, aborted.trailers)

    @classmethod
    def of_refusal(cls, refusal: Refusal, path: str) -> "Failure":
        """Returns what the gateway refuses itself, with the details that every error of ours has."""
        answer = answer_to(refusal, path, "")
        return cls(answer.code, answer.message, answer.trailing_metadata, answer.reason)

    @cached_property
    def status(self) -> Status:
        """The details, and the code and message even where a handler gave none."""
        for name, value in self.trailers:
            if name == DETAILS and isinstance(value, bytes):
                try:
                    return Status.FromString(value)
                except DecodeError:
                    break
        return Status(code=self.code.value[0], message=self.message)

    @property
    def metadata(self) -> Trailers:
        """The trailers, without the details."""
        return tuple((name, value) for name, value in self.trailers if name != DETAILS)

    @property
    def reason(self) -> str:
        """The reason of the ErrorInfo, or nothing."""
        if self.known_reason:
            return self.known_reason
        for detail in self.status.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                return str(info.reason)
        return ""

    @property
    def http_status(self) -> int:
        """Of Connect's unary calls, whose clients read the code in the body."""
        return _HTTP[self.code]

    @property
    def rest_status(self) -> int:
        """Of REST."""
        return _HTTP_OF_REASONS.get(self.reason, self.http_status)

    @property
    def rest_headers(self) -> dict[str, str]:
        """What plain HTTP clients look at, with `_` for `-`: when to call again, and that a token is wanted."""
        headers = {}
        for detail in self.status.details:
            retry = error_details_pb2.RetryInfo()
            if detail.Unpack(retry):
                headers["retry_after"] = str(max(1, retry.retry_delay.seconds + bool(retry.retry_delay.nanos)))
        if self.code is grpc.StatusCode.UNAUTHENTICATED:
            headers["www_authenticate"] = "Bearer"
        return headers

    def trailer_lines(self) -> list[str]:
        """Returns it as gRPC-Web has it: a line for each trailer."""
        lines = [f"grpc-status: {self.code.value[0]}", f"grpc-message: {quote(self.message, safe=_UNESCAPED)}"]
        return lines + [f"{name}: {header_value(value)}" for name, value in self.trailers]

    def connect_json(self) -> dict[str, Any]:
        """Returns it as Connect has it; what it knows of a detail's meaning is there for people, under `debug`."""
        name = "canceled" if self.code is grpc.StatusCode.CANCELLED else self.code.name.lower()
        error: dict[str, Any] = {"code": name, "message": self.message}
        details = []
        for detail in self.status.details:
            type_name = detail.type_url.rpartition("/")[2]
            item: dict[str, Any] = {"type": type_name, "value": header_value(detail.value)}
            if (cls := _TYPES.get(type_name)) is not None:
                message = cls()
                if detail.Unpack(message):
                    item["debug"] = json_format.MessageToDict(message)
            details.append(item)
        if details:
            error["details"] = details
        return error

    def rest_json(self) -> dict[str, Any]:
        """Returns it as JSON transcoding has it everywhere: google.rpc.Status."""
        status = self.status
        details = []
        for detail in status.details:
            type_name = detail.type_url.rpartition("/")[2]
            item: dict[str, Any] = {"@type": detail.type_url}
            if (cls := _TYPES.get(type_name)) is not None and detail.Unpack(message := cls()):
                item |= json_format.MessageToDict(message)
            else:
                item["value"] = base64.b64encode(detail.value).decode()
            details.append(item)
        return {"code": self.code.value[0], "message": self.message, "details": details}
