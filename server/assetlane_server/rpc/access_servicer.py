"""AccessService: one thin method. Refusals become statuses in the interceptor."""

from typing import Any

from assetlane.v1 import access_service_pb2 as pb
from assetlane.v1.access_service_pb2_grpc import AccessServiceServicer
from assetlane_server.model.errors import FieldViolation, InvalidRequest
from assetlane_server.model.scoped_tokens import PartitionScope
from assetlane_server.rpc.call import access_of
from assetlane_server.rpc.messages import optional_duration, token_message
from assetlane_server.uploads.scoped_tokens import AccessTokens


class AccessServicer(AccessServiceServicer):
    """Makes scoped tokens."""

    def __init__(self, tokens: AccessTokens) -> None:
        self._tokens = tokens

    async def CreateToken(self, request: pb.CreateTokenRequest, context: Any) -> pb.CreateTokenResponse:
        """Makes a token for one device."""
        scope = None
        match request.WhichOneof("scope"):
            case "partitions":
                scope = PartitionScope(tuple(request.partitions.read), tuple(request.partitions.write))
            case None:
                raise InvalidRequest([FieldViolation("scope", "is required: upload_id or partitions")])
        lifetime = optional_duration("lifetime", request, "lifetime")
        issued = await self._tokens.create_token(request.uid, request.upload_id, scope, lifetime, access_of(context))
        return pb.CreateTokenResponse(token=token_message(issued))
