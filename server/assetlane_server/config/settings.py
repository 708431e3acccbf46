"""The settings of the server: `ASSETLANE_` and the field's name in capitals, or the name in a settings file.

Unknown and malformed ones are refused with their name and the reason. docs/configuration.md lists them all.
"""

import math
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from assetlane_server.config import sources
from assetlane_server.model.admission import Terms
from assetlane_server.model.errors import SettingFault, SettingsInvalid
from assetlane_server.model.parts import (
    MAX_OBJECT_BYTES,
    MAX_PARTS,
    MAX_SINGLE_PUT_BYTES,
    MIN_PART_BYTES,
    MULTIPART_PART_BYTES,
    MULTIPART_THRESHOLD_BYTES,
    largest_object,
)
from assetlane_server.model.paths import fault_in_path

PREFIX = sources.PREFIX
# Read by the client's command, not by the server: they may stand in the same environment.
CLIENTS = frozenset(
    PREFIX + name
    for name in (
        "TARGET", "UID", "ACT_FOR", "TOKEN", "TOKEN_FILE", "PLAINTEXT", "TLS", "CA_FILE", "CLIENT_CERT_FILE",
        "CLIENT_KEY_FILE",
    )
)  # fmt: skip
IN_MONGODB = "mongodb"
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9_-]+(\.[a-z0-9_-]+)*)(:[0-9]{1,5})?", re.IGNORECASE)
_HOST = re.compile(r"\[?[0-9a-f:.]*:[0-9a-f:.]*\]?|[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.IGNORECASE)
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")  # without the brackets of a URL
_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - recognised here, not listened on


class Settings(BaseSettings):
    """What an operator decides. Durations and sizes carry their unit in the name."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    listen: str = Field("127.0.0.1:50151", description="address and port to serve on; port 0 takes a free one")
    web_listen: str | None = Field(
        None,
        description="address and port for browsers, phones and shells (gRPC-Web, Connect, JSON); unset: none",
    )
    web_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="origins whose pages may call `web_listen`, such as `https://app.example`; joined by commas"
    )
    web_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="names by which callers reach `web_listen`, without ports; unset: its address, or loopback's names",
    )
    workers: int = Field(1, ge=1, le=256, description="processes of `serve` that share the ports")
    jwt_key_file: Path | None = Field(
        None, description="public key in PEM, or secret, that tokens are verified with; unset: nobody needs one"
    )
    jwt_jwks: str | None = Field(
        None, description="the same as a JSON Web Key Set: a file or an https URL (http only on loopback)"
    )
    jwt_refresh_seconds: float = Field(300, ge=1, le=86_400, description="time between two readings of these keys")
    jwt_issuer: str | None = Field(None, min_length=1, description="`iss` that a token must have; unset: any or none")
    jwt_audience: str | None = Field(
        None, min_length=1, description="what a token's `aud` must name; unset: not looked at"
    )
    jwt_leeway_seconds: float = Field(10, ge=0, le=300, description="how far the issuer's clock may be off")
    policy_file: Path | None = Field(
        None, description="who may read and write which partition; unset: one's own, and `public`"
    )
    token_keys: str = Field(
        IN_MONGODB,
        min_length=1,
        description="where the rings of keys for scoped tokens are kept: `mongodb`, or a folder",
    )
    token_max_hours: float = Field(24, ge=1 / 60, le=168, description="longest life of a scoped token")
    reload_seconds: float = Field(
        2, ge=0.05, le=3600, description="time between two looks at policy file, key files and rings of keys"
    )
    allow_anonymous: bool = Field(False, description="whether to serve beyond loopback although callers need no token")
    reflection: bool = Field(
        True, description="whether to serve gRPC reflection, which describes the contract to anybody"
    )
    tls_cert_file: Path | None = Field(None, description="certificate chain of the server in PEM; unset: no TLS")
    tls_key_file: Path | None = Field(None, description="its private key in PEM, without a password")
    tls_client_ca_file: Path | None = Field(
        None, description="authorities in PEM that sign clients' certificates; unset: clients need none"
    )
    mongo_uri: SecretStr = Field(description="URI of a MongoDB replica set or sharded cluster")
    mongo_database: str = Field("assetlane", min_length=1, max_length=63, description="database of the ledger")
    mongo_timeout_seconds: float = Field(10, gt=0, le=300, description="limit of one MongoDB operation")
    s3_bucket: str = Field(min_length=3, max_length=63, description="bucket that holds the objects")
    s3_region: str = Field("us-east-1", min_length=1, description="region, part of every signature")
    s3_endpoint: str | None = Field(None, description="URL of the store as the server reaches it; unset: Amazon S3")
    s3_public_endpoint: str | None = Field(
        None, description="URL of the store as callers reach it, named in every URL; unset: `s3_endpoint`"
    )
    s3_addressing: Literal["auto", "path", "virtual"] = Field(
        "auto", description="where URLs name the bucket; `auto`: `virtual` for Amazon S3, else `path`"
    )
    s3_access_key_id: SecretStr | None = Field(
        None, description="access key; unset: found as boto3 finds it (environment, profile, role)"
    )
    s3_secret_access_key: SecretStr | None = Field(None, description="secret of the access key")
    s3_sse_kms_key_id: str | None = Field(
        None,
        min_length=1,
        max_length=2048,
        description="KMS key (id, ARN or alias) that the store encrypts with; unset: the bucket's own encryption",
    )
    s3_timeout_seconds: float = Field(10, gt=0, le=300, description="limit of one call to the store")
    s3_pool_size: int = Field(32, ge=1, le=512, description="calls to the store at the same time")
    accept_overwrites: bool = Field(
        False, description="whether to serve on a store that cannot refuse a second PUT to the same key"
    )
    accept_unsigned_headers: bool = Field(
        False,
        description="whether to serve on a store that obeys `x-amz-acl` or `x-amz-copy-source` added to a write URL",
    )
    store_probe: Literal["full", "quick"] = Field(
        "full",
        description="what the start asks the store; `quick` leaves simultaneous PUTs out: they take SeaweedFS seconds",
    )
    public_assets: bool = Field(
        True, description="whether assets may be public; without them `setup` needs no bucket policy"
    )
    key_prefix: str = Field("", description="what every key begins with; empty, or ends with `/`")
    public_base_url: str | None = Field(
        None, description="what a public asset's URL begins with, such as a CDN; unset: the bucket's own URL"
    )
    write_url_seconds: int = Field(
        900, ge=1, le=604_800, description="life of a write URL of a request that asks for none"
    )
    write_url_max_hours: float = Field(
        24, ge=0.02, le=168, description="longest life of a write URL that a request may ask for"
    )
    upload_hours: float = Field(24, gt=0, le=168, description="time from a request to its deadline")
    upload_retention_days: float = Field(
        30,
        gt=0,
        le=3650,
        description="how long the record of a finished upload is kept",
    )
    sweep_seconds: float = Field(
        10, ge=0.05, le=3600, description="average time between two looks for what clients left behind"
    )
    accept_mislabelled: bool = Field(
        False, description="whether bytes may be of another type than declared (pictures, sound, video, PDF)"
    )
    max_upload_bytes: int = Field(
        MAX_OBJECT_BYTES, ge=1, le=MAX_OBJECT_BYTES, description="largest size of one variant"
    )
    multipart_threshold_bytes: int = Field(
        MULTIPART_THRESHOLD_BYTES,
        ge=1,
        le=MAX_SINGLE_PUT_BYTES,
        description="size from which on a variant arrives in parts",
    )
    multipart_part_bytes: int = Field(
        MULTIPART_PART_BYTES,
        ge=MIN_PART_BYTES,
        le=MAX_SINGLE_PUT_BYTES,
        description="size of a part; larger where there would be more than `multipart_max_parts`",
    )
    multipart_max_parts: int = Field(
        MAX_PARTS, ge=1, le=MAX_PARTS, description="most parts of one object that the store takes; some take 1,000"
    )
    cut_workers: int = Field(
        1,
        ge=1,
        le=64,
        description="pictures cut at the same time, each in a process of its own, per server process",
    )
    cut_seconds: float = Field(20, gt=0, le=600, description="limit of the CPU time that the cuts of one picture take")
    cut_wall_seconds: float = Field(
        60, gt=0, le=3600, description="time within which a picture has to be cut; tried three times"
    )
    cut_memory_bytes: int = Field(
        1024**3, ge=64 * 1024**2, description="limit of the memory that the cuts of one picture take (on Linux)"
    )
    cut_max_bytes: int = Field(
        64 * 1024**2, ge=1, le=1024**3, description="largest original that the server makes cuts of"
    )
    cut_max_pixels: int = Field(
        100_000_000, ge=1, le=1_000_000_000, description="most pixels of a picture that the server makes cuts of"
    )
    max_message_bytes: int = Field(1024**2, ge=65_536, le=64 * 1024**2, description="largest request message")
    max_calls: int = Field(1000, ge=1, description="calls in flight at a time, per process; watches do not count")
    max_watches: int = Field(10_000, ge=1, description="watches open at a time, per process")
    max_watches_per_uid: int = Field(
        1000, ge=1, description="watches of one token's subject open at a time, per process"
    )
    max_connections: int = Field(
        20_000, ge=1, le=1_000_000, description="connections to each port at a time, per process; others are closed"
    )
    max_streams_per_connection: int = Field(
        16_384,
        ge=1,
        le=1_000_000,
        description="calls and watches that one connection carries at a time; its client holds back the others",
    )
    max_probes: int = Field(
        1000,
        ge=1,
        le=100_000,
        description="health checks, health watches and reflection streams open at a time, of each kind, per process",
    )
    request_seconds: float = Field(
        20, ge=0.1, le=600, description="time that the request message of a call has to arrive"
    )
    quota_uid_uploads: int | None = Field(
        None, ge=1, le=10_000, description="uploads of one owner open at a time; unset: any number"
    )
    quota_uid_bytes: int | None = Field(
        None, ge=1, le=2**62, description="bytes that one owner's open uploads promise together; unset: any number"
    )
    quota_partition_uploads: int | None = Field(
        None, ge=1, le=10_000, description="uploads open at a time for one `asset_partition`; unset: any number"
    )
    quota_partition_bytes: int | None = Field(
        None, ge=1, le=2**62, description="bytes that open uploads for one `asset_partition` promise; unset: any number"
    )
    quota_calls_per_second: float | None = Field(
        None, ge=0.01, le=1e6, description="calls of one token's subject a second, per process; unset: any number"
    )
    min_ping_seconds: float = Field(
        10, ge=0.1, le=3600, description="a client that pings more often than this loses its connection"
    )
    handshake_seconds: float = Field(
        20, ge=0.1, le=600, description="time that a new connection has to begin; then it is closed"
    )
    keepalive_seconds: float = Field(
        30, ge=0.1, le=3600, description="silence after which a client is pinged, and time it has to answer"
    )
    heartbeat_seconds: float = Field(30, ge=0.1, le=300, description="silence after which a watch sends a sign of life")
    grace_seconds: float = Field(30, ge=0, le=600, description="time to finish calls in flight when stopping")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        ("*",), description="origins whose pages may PUT and GET, set by `setup`; joined by commas"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severity to log")
    log_format: Literal["auto", "json", "pretty"] = Field(
        "auto", description="how lines of the log look; `auto`: `pretty` on a terminal, else `json`"
    )
    log_calls: Literal["failed", "all"] = Field(
        "failed", description="calls that have a line in the log; with `log_level` `debug` all have"
    )
    audit_file: Path | None = Field(
        None, description="file of the audit log: read URLs, refreshes, tokens and deletions; unset: none"
    )
    audit_required: bool = Field(
        True, description="whether a call fails (AUDIT_UNAVAILABLE) that the audit log cannot record"
    )
    metrics_listen: str | None = Field(
        None,
        description="address and port of `/metrics`, `/livez` and `/readyz`, the second worker's port is one higher and"
        " so on; unset: none",
    )

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Reads nothing by itself: `settings_from` takes the environment that it is given, and names what is wrong."""
        return (init_settings,)

    @field_validator("cors_origins", "web_origins", "web_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("s3_endpoint", "s3_public_endpoint", "public_base_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise _fault("NOT_AN_URL", "must begin with http:// or https://")
        return value if value is None else value.rstrip("/")

    @field_validator("key_prefix")
    @classmethod
    def _is_prefix(cls, value: str) -> str:
        if value and (not value.endswith("/") or fault_in_path(value[:-1], 256)):
            raise _fault("NOT_A_PREFIX", "must be empty, or a relative path that ends with one '/', at most 256 bytes")
        return value

    @field_validator("s3_sse_kms_key_id")
    @classmethod
    def _is_header_value(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[!-~]+", value):
            raise _fault("NOT_A_KEY_NAME", "must be an id, ARN or alias of a key: visible ASCII characters, no blanks")
        return value

    @field_validator("web_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise _fault(
                    "NOT_AN_ORIGIN",
                    f"{origin!r} is no origin: list each as scheme, host and port, such as https://app.example"
                    " (no path, no wildcard)",
                )
        return value

    @field_validator("web_hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not _HOST.fullmatch(host):
                raise _fault(
                    "NOT_A_HOST",
                    f"{host!r} is no host: list names or addresses without ports, such as files.example",
                )
        return tuple(host.strip("[]") for host in value)

    @field_validator("listen", "web_listen", "metrics_listen")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None:
            host, colon, port = value.rpartition(":")
            if not (host and colon and port.isdigit() and int(port) < 65_536):
                raise _fault("NOT_AN_ADDRESS", "must look like 127.0.0.1:50151")
        return value

    @field_validator("jwt_jwks")
    @classmethod
    def _is_safe_source(cls, value: str | None) -> str | None:
        # Over http anybody on the way can replace the keys by their own.
        if value is None or "://" not in value:
            return value
        scheme, _, rest = value.partition("://")
        scheme = scheme.lower()
        host = urlsplit(value).hostname
        if not host or (scheme != "https" and not (scheme == "http" and host in _LOOPBACK_HOSTS)):
            raise _fault(
                "NOT_A_FILE_OR_HTTPS_URL",
                "must be a file or an https URL (http only for loopback: 127.0.0.1, localhost, [::1])",
            )
        return f"{scheme}://{rest}"

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.jwt_key_file is not None and self.jwt_jwks is not None:
            raise _fault(
                "SETTINGS_EXCLUDE_EACH_OTHER",
                "ASSETLANE_JWT_KEY_FILE and ASSETLANE_JWT_JWKS exclude each other: set one",
                "jwt_key_file",
                "jwt_jwks",
            )
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise _fault(
                "SETTINGS_GO_TOGETHER",
                "ASSETLANE_TLS_CERT_FILE and ASSETLANE_TLS_KEY_FILE go together: set both or neither",
                "tls_cert_file",
                "tls_key_file",
            )
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise _fault(
                "SETTING_NEEDS_ANOTHER",
                "ASSETLANE_TLS_CLIENT_CA_FILE needs ASSETLANE_TLS_CERT_FILE and ASSETLANE_TLS_KEY_FILE",
                "tls_client_ca_file",
            )
        for name in ("jwt_issuer", "jwt_audience"):
            if getattr(self, name) is not None and not self.has_token_keys:
                raise _fault(
                    "SETTING_NEEDS_ANOTHER",
                    f"{PREFIX}{name.upper()} needs ASSETLANE_JWT_KEY_FILE or ASSETLANE_JWT_JWKS",
                    name,
                )
        if self.has_identity:
            if self.allow_anonymous:
                raise _fault(
                    "SETTING_MEANS_NOTHING",
                    "ASSETLANE_ALLOW_ANONYMOUS means nothing where callers have to prove who they are: unset it",
                    "allow_anonymous",
                )
            return self
        # Set in the belief that it protects.
        if self.policy_file is not None:
            raise _fault(
                "SETTING_NEEDS_ANOTHER",
                "ASSETLANE_POLICY_FILE needs ASSETLANE_JWT_KEY_FILE or ASSETLANE_JWT_JWKS, or, for back ends that are"
                " known by their certificates alone, ASSETLANE_TLS_CLIENT_CA_FILE",
                "policy_file",
            )
        if self.quota_calls_per_second is not None:
            raise _fault(
                "SETTING_NEEDS_ANOTHER",
                "ASSETLANE_QUOTA_CALLS_PER_SECOND needs ASSETLANE_JWT_KEY_FILE or ASSETLANE_JWT_JWKS",
                "quota_calls_per_second",
            )
        if not (self.is_loopback or self.allow_anonymous):
            name = "web_listen" if _is_on_loopback(self.listen) else "listen"
            raise _fault(
                "NOT_LOOPBACK",
                f"{PREFIX}{name.upper()} must be a loopback address (127.0.0.1, localhost, [::1]) while callers need no"
                " token: set ASSETLANE_JWT_KEY_FILE or ASSETLANE_JWT_JWKS, or ASSETLANE_ALLOW_ANONYMOUS=true",
                name,
            )
        return self

    @model_validator(mode="after")
    def _web_is_whole(self) -> Self:
        if self.web_listen is None:
            for name in ("web_origins", "web_hosts"):
                if getattr(self, name):
                    raise _fault("SETTING_NEEDS_ANOTHER", f"{PREFIX}{name.upper()} needs ASSETLANE_WEB_LISTEN", name)
            return self
        port = int(self.web_listen.rpartition(":")[2])
        if port and port == int(self.listen.rpartition(":")[2]):
            raise _fault(
                "PORT_TAKEN",
                "ASSETLANE_WEB_LISTEN needs a port of its own, another one than ASSETLANE_LISTEN has",
                "web_listen",
            )
        if not (self.web_hosts or default_hosts(self.web_listen)):
            raise _fault(
                "HOSTS_MISSING",
                "ASSETLANE_WEB_HOSTS must list the names by which callers reach ASSETLANE_WEB_LISTEN, since it listens"
                " on every address",
                "web_hosts",
            )
        return self

    @model_validator(mode="after")
    def _ports_suffice(self) -> Self:
        if self.metrics_listen is not None:
            first = int(self.metrics_listen.rpartition(":")[2])
            if first and first + self.workers > 65_536:
                raise _fault(
                    "PORT_TOO_HIGH",
                    "ASSETLANE_METRICS_LISTEN needs a port for each worker: choose a lower one",
                    "metrics_listen",
                )
            if first and first <= int(self.listen.rpartition(":")[2]) < first + self.workers:
                raise _fault(
                    "PORT_TAKEN",
                    "ASSETLANE_LISTEN lies among the ports of ASSETLANE_METRICS_LISTEN, one per worker",
                    "listen",
                    "metrics_listen",
                )
            web = 0 if self.web_listen is None else int(self.web_listen.rpartition(":")[2])
            if first and first <= web < first + self.workers:
                raise _fault(
                    "PORT_TAKEN",
                    "ASSETLANE_WEB_LISTEN lies among the ports of ASSETLANE_METRICS_LISTEN",
                    "web_listen",
                    "metrics_listen",
                )
        return self

    @model_validator(mode="after")
    def _parts_suffice(self) -> Self:
        largest = largest_object(self.multipart_max_parts)
        if "max_upload_bytes" in self.model_fields_set and self.max_upload_bytes > largest:
            raise _fault(
                "SETTING_OUT_OF_RANGE",
                f"ASSETLANE_MAX_UPLOAD_BYTES is {self.max_upload_bytes:,}, ASSETLANE_MULTIPART_MAX_PARTS"
                f" ({self.multipart_max_parts:,}) of at most {MAX_SINGLE_PUT_BYTES:,} bytes allow {largest:,}",
                "max_upload_bytes",
                "multipart_max_parts",
            )
        return self

    @model_validator(mode="after")
    def _both_keys(self) -> Self:
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            raise _fault(
                "SETTINGS_GO_TOGETHER",
                "ASSETLANE_S3_ACCESS_KEY_ID and ASSETLANE_S3_SECRET_ACCESS_KEY go together: set both or neither",
                "s3_access_key_id",
                "s3_secret_access_key",
            )
        return self

    def source_of(self, name: str) -> str:
        """Returns where a setting comes from: `environment`, `file`, `secret file`, or `default`."""
        return self._sources.get(name, sources.FROM_ENVIRONMENT if name in self.model_fields_set else "default")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the server."""
        return not self.beyond_loopback

    @property
    def beyond_loopback(self) -> str:
        """The addresses that others than this machine reach, joined by commas; empty: there are none."""
        addresses = (address for address in (self.listen, self.web_listen) if address is not None)
        return ", ".join(address for address in addresses if not _is_on_loopback(address))

    @property
    def has_identity(self) -> bool:
        """Whether callers have to prove who they are: by a token, or by certificates that the policy names."""
        return self.has_token_keys or (self.policy_file is not None and self.tls_client_ca_file is not None)

    @property
    def has_token_keys(self) -> bool:
        """Whether the tokens of an identity provider are verified."""
        return self.jwt_key_file is not None or self.jwt_jwks is not None

    @property
    def has_jwks_url(self) -> bool:
        """Whether the keys come from elsewhere."""
        return self.jwt_jwks is not None and self.jwt_jwks.startswith(("http://", "https://"))

    @property
    def abort_multipart_days(self) -> int:
        """Days after which the store may drop an unfinished multipart upload: never before its deadline."""
        return math.ceil(max(self.upload_hours, self.write_url_max_hours) / 24) + 2

    def of_worker(self, number: int) -> "Settings":
        """Returns the settings of one worker, counted from 1: each has metrics of its own, on a port of its own."""
        if self.metrics_listen is None or self.metrics_listen.endswith(":0"):
            return self
        host, _, port = self.metrics_listen.rpartition(":")
        return self.model_copy(update={"metrics_listen": f"{host}:{int(port) + number - 1}"})

    @property
    def terms(self) -> Terms:
        """What these settings mean for every upload."""
        return Terms(
            key_prefix=self.key_prefix,
            max_upload_bytes=min(self.max_upload_bytes, largest_object(self.multipart_max_parts)),
            multipart_threshold_bytes=self.multipart_threshold_bytes,
            multipart_part_bytes=self.multipart_part_bytes,
            multipart_max_parts=self.multipart_max_parts,
            public_assets=self.public_assets,
            write_url_lifetime=timedelta(seconds=self.write_url_seconds),
            max_write_url_lifetime=timedelta(hours=self.write_url_max_hours),
            upload_lifetime=timedelta(hours=self.upload_hours),
            accept_mislabelled=self.accept_mislabelled,
            upload_retention=timedelta(days=self.upload_retention_days),
            max_cut_bytes=self.cut_max_bytes,
        )


def _fault(reason: str, message: str, *fields: str) -> PydanticCustomError:
    """Returns the error of a validator; one of several fields names them."""
    settings = tuple(f"{PREFIX}{field.upper()}" for field in fields)
    return PydanticCustomError(reason, "{message}", {"message": message, "settings": settings})


def _is_on_loopback(address: str) -> bool:
    return address.rpartition(":")[0] in _LOOPBACK


def default_hosts(listen: str) -> tuple[str, ...]:
    """Returns the names that a server at this address has by itself, none where it listens on every address."""
    host = listen.rpartition(":")[0].strip("[]").lower()
    if host in _LOOPBACK_HOSTS:
        return _LOOPBACK_HOSTS
    return () if host in _WILDCARDS else (host,)


SECRETS = frozenset(name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation))


def settings_from(environment: Mapping[str, str] = os.environ, **given: object) -> Settings:
    """Returns the settings; `given` ones (by field name) win over the environment, and that over the settings file.

    Raises SettingsInvalid naming every setting that is unknown, missing or malformed.
    """
    found = sources.read_sources(environment, Settings.model_fields, SECRETS, CLIENTS)
    try:
        settings = Settings(**{**found.values, **given})  # type: ignore[arg-type]  # pydantic checks and converts
        settings._sources.update(found.sources)  # noqa: SLF001 - of our own class
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            wrong = sources.value_fault(fault)
            if fault["loc"]:
                field = str(fault["loc"][0])
                name = found.names.get(field, PREFIX + field.upper())
                if fault["type"] == "missing" and any(one.settings == (f"{name}_FILE",) for one in found.faults):
                    continue  # it is given, in a file that cannot be read
                found.refuse(name, wrong.reason, wrong.phrase, wrong.expected)
            else:
                found.faults.append(SettingFault(wrong.reason, fault.get("ctx", {}).get("settings", ()), wrong.phrase))
    if found.faults:
        raise SettingsInvalid(found.faults)
    return settings
