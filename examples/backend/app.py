r"""A back end in one file: hands each of its users' devices an upload, with a token that opens nothing else.

    pip install fastapi uvicorn                       # and assetlane
    BACKEND_TOKEN_FILE=backend.token uvicorn examples.backend.app:app
    curl -u ann:secret -d '{"name": "a.txt", "size_bytes": 5, "content_type": "text/plain"}' \
         -H 'content-type: application/json' http://127.0.0.1:8000/uploads

The policy names this back end as a service caller (docs/authorization.md). The answer is the device's: it PUTs the
bytes to `write_targets`, then calls Assetlane itself with `token`.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from google.protobuf.json_format import MessageToDict
from pydantic import BaseModel

from assetlane import AssetlaneError, Client, RequestUploadRequest, TokenOptions, VariantPromise

USERS = {"ann": "secret", "bob": "hidden"}  # yours come from your own login


class File(BaseModel):
    """What a device is about to send."""

    name: str
    size_bytes: int
    content_type: str


async def own_token() -> str:
    """Returns this back end's own token, which somebody keeps fresh."""
    return (await asyncio.to_thread(Path(os.environ["BACKEND_TOKEN_FILE"]).read_text)).strip()


@asynccontextmanager
async def opened(app: FastAPI) -> AsyncIterator[None]:
    """Keeps one connection to Assetlane for as long as the site runs."""
    async with Client(os.environ.get("ASSETLANE_TARGET", "127.0.0.1:50151"), token=own_token) as app.state.client:
        yield


app = FastAPI(lifespan=opened)


def user_of(login: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]) -> str:
    """Returns who is logged in."""
    if USERS.get(login.username) != login.password:
        raise HTTPException(401)
    return login.username


@app.post("/uploads")
async def request_upload(file: File, user: Annotated[str, Depends(user_of)]) -> dict[str, Any]:
    """Requests an upload for the user, and returns it with its write targets and the device's token."""
    original = VariantPromise(name="original", size_bytes=file.size_bytes, content_type=file.content_type)
    request = RequestUploadRequest(uid=user, file_path=file.name, variants=[original], issue_token=TokenOptions())
    return MessageToDict(await app.state.client.request_upload(request), preserving_proto_field_name=True)


@app.exception_handler(AssetlaneError)
async def failed(_request: object, error: AssetlaneError) -> JSONResponse:
    """Answers with the stable reason."""
    return JSONResponse({"reason": error.reason, "message": str(error)}, 502)
