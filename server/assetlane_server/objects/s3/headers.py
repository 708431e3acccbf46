"""Every header that a caller has to send to the store, in one place, and those that nobody may send. Pure.

The signer, the CORS rule of `setup`, the preflight of `doctor` and the probe take them from here: what is signed
and not allowed by CORS cannot be sent from a browser.
"""

from collections.abc import Mapping

CONTENT_TYPE = "content-type"
CONTENT_DISPOSITION = "content-disposition"
CACHE_CONTROL = "cache-control"
IF_NONE_MATCH = "if-none-match"
CHECKSUM_SHA256 = "x-amz-checksum-sha256"
ENCRYPTION = "x-amz-server-side-encryption"
ENCRYPTION_KEY = "x-amz-server-side-encryption-aws-kms-key-id"
CONTENT_LENGTH = "content-length"

# What a page has to set by itself for a PUT, and CORS has to allow.
UPLOAD_HEADERS = (
    CACHE_CONTROL,
    CONTENT_DISPOSITION,
    CONTENT_TYPE,
    IF_NONE_MATCH,
    CHECKSUM_SHA256,
    ENCRYPTION,
    ENCRYPTION_KEY,
)
ENCRYPTION_HEADERS = frozenset({ENCRYPTION, ENCRYPTION_KEY})  # those of it that take a KMS key in the settings
READ_HEADERS = ("range",)
EXPOSED_HEADERS = ("ETag",)  # multipart uploads and caches need it

# Browsers set it themselves, as they do `host`, which the signer adds.
_SIGNED_OF_A_PUT = frozenset({*UPLOAD_HEADERS, CONTENT_LENGTH})

# What S3 keeps of a PUT and sends with every GET, although no signature forbids it.
_FOREIGN = frozenset({"content-encoding", "content-language", "expires", "x-amz-website-redirect-location"})
_FOREIGN_PREFIX = "x-amz-meta-"


def check_signed_headers(headers: Mapping[str, str]) -> None:
    """Raises ValueError for a header of a PUT that is not in the list, or whose value a signature would change."""
    if unknown := headers.keys() - _SIGNED_OF_A_PUT:
        raise ValueError(f"no browser could send {', '.join(sorted(unknown))}: CORS does not allow it")
    for name, value in headers.items():
        if "  " in value or value != value.strip() or not value.isascii() or not value.isprintable():
            raise ValueError(f"{name} has blanks that SigV4 folds, or characters that no header can have")


def foreign_headers(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the names of headers of an object that no write target asks for, sorted; `headers` are a HEAD's."""
    names = {name.lower() for name, value in headers.items() if value}
    foreign = names & _FOREIGN
    foreign.update(name for name in names if name.startswith(_FOREIGN_PREFIX))
    return tuple(sorted(foreign))
