"""Nothing that the contract names answers UNIMPLEMENTED."""

import pytest
from google.protobuf.descriptor import ServiceDescriptor

from assetlane.v1 import asset_service_pb2, upload_service_pb2
from assetlane_server.rpc.asset_servicer import AssetServicer
from assetlane_server.rpc.upload_servicer import UploadServicer

SERVICES = [
    (upload_service_pb2.DESCRIPTOR.services_by_name["UploadService"], UploadServicer),
    (asset_service_pb2.DESCRIPTOR.services_by_name["AssetService"], AssetServicer),
]


@pytest.mark.parametrize(("service", "servicer"), SERVICES, ids=lambda one: getattr(one, "name", ""))
def test_every_rpc_of_the_contract_has_a_method_of_our_own(service: ServiceDescriptor, servicer: type) -> None:
    """The generated base class would answer UNIMPLEMENTED for one that is missing."""
    assert {method.name for method in service.methods} <= servicer.__dict__.keys()
