"""Writes `deploy/assetlane.pb`, the descriptors that Envoy transcodes JSON by; `--check` only compares.

With the messages of google.rpc: without them errors come out of Envoy without their details.
"""

import sys
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import error_details_pb2, status_pb2

from assetlane.v1 import asset_service_pb2, upload_service_pb2

FILE: Final = Path(__file__).parent.parent / "deploy" / "assetlane.pb"


def descriptors() -> bytes:
    """Returns the set, each file after those that it imports."""
    whole = FileDescriptorSet()
    added: set[str] = set()

    def add(file: Any) -> None:
        if file.name in added:
            return
        added.add(file.name)
        for imported in file.dependencies:
            add(imported)
        file.CopyToProto(whole.file.add())

    for module in (upload_service_pb2, asset_service_pb2, status_pb2, error_details_pb2):
        add(module.DESCRIPTOR)
    return whole.SerializeToString(deterministic=True)


def main() -> int:
    """Writes the file, or says that it is not what the contract says."""
    if "--check" not in sys.argv:
        FILE.write_bytes(descriptors())
        return 0
    if not FILE.exists() or FILE.read_bytes() != descriptors():
        sys.stderr.write("deploy/assetlane.pb is not what protos/ say: run `make proto` and commit\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
