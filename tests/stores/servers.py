"""S3 servers of other makers: installed by their ordinary clients, run on loopback, ended with the block.

Nothing is installed into the system: binaries and environments lie in `.venv/stores/`.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CACHE: Final = Path(__file__).parents[2] / ".venv" / "stores"
INSTALL_LIMIT_S: Final = 1800  # a first build of MinIO fetches and compiles 300 modules
START_LIMIT_S: Final = 60.0
REGION: Final = "us-east-1"
KEY_ID, SECRET = "ASSETLANETEST", "a-secret-of-the-tests"


class StoreMissing(Exception):  # noqa: N818 - a reason to skip, not a fault
    """The store cannot be installed here, for the reason given."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a store answers, and to whom."""

    endpoint: str
    key_id: str = KEY_ID
    secret: str = SECRET
    region: str = REGION


@dataclass(frozen=True, slots=True)
class OtherStore:
    """A store by its name, with what is pinned of it."""

    name: str
    version: str
    install: Callable[["OtherStore"], Path]  # returns the program; raises StoreMissing
    command: Callable[[Path, Path, int], list[str]]  # of the program, a folder and a port
    variables: Mapping[str, str]
    settings: Mapping[str, str] = field(default_factory=dict)  # of ASSETLANE_… that such a store needs
    key_of: Callable[[str], tuple[str, str]] = lambda _endpoint: (KEY_ID, SECRET)

    @property
    def home(self) -> Path:
        """Where it is installed."""
        return CACHE / f"{self.name}-{self.version}"


def go_install(package: str) -> Callable[[OtherStore], Path]:
    """Returns what installs a Go program of this package."""

    def install(store: OtherStore) -> Path:
        program = store.home / package.rpartition("/")[2]
        if program.exists():
            return program
        if (go := shutil.which("go")) is None:
            raise StoreMissing("there is no Go here (https://go.dev/dl/)")
        installed([go, "install", f"{package}@{store.version}"], {"GOBIN": str(store.home)})
        return program

    return install


def pip_install(package: str) -> Callable[[OtherStore], Path]:
    """Returns what installs a program of PyPI into an environment of its own."""

    def install(store: OtherStore) -> Path:
        program = store.home / "bin" / package
        if program.exists():
            return program
        installed([sys.executable, "-m", "venv", str(store.home)], {})
        pip = [str(store.home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        installed([*pip, f"{package}=={store.version}"], {})
        return program

    return install


def installed(command: list[str], variables: Mapping[str, str]) -> None:
    """Runs an installation. Raises StoreMissing with the end of what it said."""
    try:
        subprocess.run(
            command,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=INSTALL_LIMIT_S,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise StoreMissing(f"`{' '.join(command[:3])}` took more than {INSTALL_LIMIT_S} s") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise StoreMissing(f"`{' '.join(command[:3])}` failed: {last[:200]}") from error


def key_of_an_iam_user(endpoint: str) -> tuple[str, str]:
    """Makes a user with all rights: ministack checks no signature of its root."""
    iam = boto3.client(
        "iam",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    iam.create_user(UserName="assetlane")
    document = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'
    iam.put_user_policy(UserName="assetlane", PolicyName="all", PolicyDocument=document)
    key = iam.create_access_key(UserName="assetlane")["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


def versitygw(program: Path, folder: Path, port: int) -> list[str]:
    """The gateway before a folder of a POSIX file system."""
    data, versions = folder / "data", folder / "versions"
    data.mkdir()
    versions.mkdir()
    return [str(program), "-p", f"127.0.0.1:{port}", "--quiet", "posix", "--versioning-dir", str(versions), str(data)]


STORES: Final = {
    store.name: store
    for store in (
        OtherStore(
            "versitygw",
            "v1.8.0",
            go_install("github.com/versity/versitygw/cmd/versitygw"),
            versitygw,
            {"ROOT_ACCESS_KEY_ID": KEY_ID, "ROOT_SECRET_ACCESS_KEY": SECRET},
        ),
        OtherStore(
            "ministack",
            "1.5.33",
            pip_install("ministack"),
            lambda program, _folder, _port: [str(program)],
            {"AUTH": "true", "BIND_HOST": "127.0.0.1", "SERVICES": "s3,iam,sts,sqs,sns"},
            key_of=key_of_an_iam_user,
        ),
        OtherStore(
            "minio",
            "v0.0.0-20260212201848-7aac2a2c5b7c",  # the last commit before the repository was archived
            go_install("github.com/minio/minio"),
            lambda program, folder, port: [
                str(program), "server", "--quiet", "--address", f"127.0.0.1:{port}", str(folder),
            ],
            {"MINIO_ROOT_USER": KEY_ID, "MINIO_ROOT_PASSWORD": SECRET, "MINIO_BROWSER": "off"},
            {"ASSETLANE_ACCEPT_UNSIGNED_HEADERS": "true"},  # it obeys an unsigned x-amz-copy-source
        ),
    )
}  # fmt: skip


@contextmanager
def running(store: OtherStore, program: Path, folder: Path, port: int) -> Iterator[Address]:
    """Runs a store with its data in this folder. Raises TimeoutError when it does not answer."""
    data = folder / "store"
    data.mkdir()
    variables = {"PATH": os.environ["PATH"], "HOME": str(folder), "GATEWAY_PORT": str(port), **store.variables}
    with (folder / "store.log").open("wb") as log:
        process = subprocess.Popen(
            store.command(program, data, port), env=variables, cwd=folder, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            endpoint = f"http://127.0.0.1:{port}"
            wait_for(endpoint, process, folder / "store.log")
            yield Address(endpoint, *store.key_of(endpoint))
        finally:
            process.terminate()
            try:
                process.wait(START_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for(endpoint: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Returns once the store answers S3, with whatever answer."""
    anybody = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )
    until = time.monotonic() + START_LIMIT_S
    while not answers(anybody):
        if process.poll() is not None or time.monotonic() > until:
            raise TimeoutError(f"the store does not answer: {log.read_text()[-500:]}")
        time.sleep(0.1)


def answers(client: "S3Client") -> bool:
    """Whether it answers at all, be it with a refusal."""
    try:
        client.list_buckets()
    except ClientError as error:
        return bool(error.response["ResponseMetadata"]["HTTPStatusCode"] < 500)
    except BotoCoreError:
        return False
    return True
