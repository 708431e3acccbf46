"""Where the object store is and how it is reached. Plain values."""

from dataclasses import dataclass, field
from datetime import timedelta

from assetlane_server.objects.s3.sigv4 import Addressing


@dataclass(frozen=True, slots=True)
class S3Settings:
    """What `S3ObjectStore.open` needs. An empty text means what its comment says after the colon."""

    bucket: str
    region: str = "us-east-1"
    endpoint: str = ""  # what this server calls: AWS's own in the region
    public_endpoint: str = ""  # what write and read URLs name: the same as `endpoint`
    access_key_id: str = ""  # with its secret: boto3's default chain (environment, profile, role …)
    secret_access_key: str = field(default="", repr=False)
    addressing: Addressing = "path"
    sse_kms_key_id: str = ""  # the KMS key that every object is encrypted with: what the bucket does by itself
    public_base_url: str = ""  # what public URLs start with: the bucket at the public endpoint
    pool_size: int = 32  # calls to the store under way at once
    page_keys: int = 1000  # in one page of a listing: S3 gives no more
    call_timeout: timedelta = timedelta(seconds=10)  # the limit of one call, its wait for the pool included
    credentials_interval: timedelta = timedelta(seconds=30)  # how often temporary credentials are looked at

    def __post_init__(self) -> None:
        if bool(self.access_key_id) != bool(self.secret_access_key):
            raise ValueError("set both access_key_id and secret_access_key, or neither")
        if self.public_base_url and not self.public_base_url.startswith(("https://", "http://")):
            raise ValueError(f"public_base_url is http(s)://…, not {self.public_base_url!r}")


@dataclass(frozen=True, slots=True)
class Route:
    """How this process reaches the store: the trust and the proxy that boto3 uses."""

    ca_bundle: str = ""  # the file of accepted certificate authorities; empty: the store is called without TLS
    proxy: str = ""  # its URL; empty: none
