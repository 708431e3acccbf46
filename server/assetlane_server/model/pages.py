"""Page sizes and page tokens of the lists. Pure."""

from collections.abc import Sequence

from assetlane_server.model.errors import FieldViolation, InvalidRequest
from assetlane_server.model.tokens import TokenSigner

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000


def page_size(asked: int) -> int:
    """Returns how many items a page holds: what was asked for, within the limits."""
    if asked < 0:
        raise InvalidRequest([FieldViolation("page_size", f"is {asked}, it must be 0 (the default) or more")])
    return min(asked, MAX_PAGE_SIZE) or DEFAULT_PAGE_SIZE


def page_token(signer: TokenSigner, last_id: str, filters: Sequence[str]) -> str:
    """Returns an opaque token for the page after `last_id` of the list with these filters."""
    return signer.token_of(last_id.encode(), ("page", *filters))


def last_id_of(signer: TokenSigner, token: str, filters: Sequence[str]) -> str:
    """Returns the id behind a token, empty for an empty one. Raises InvalidRequest for a foreign token."""
    if not token:
        return ""
    content = signer.content_of(token, ("page", *filters))
    if content is None:
        limit = "is not from this list: hand in next_page_token of the page before, with the same filters"
        raise InvalidRequest([FieldViolation("page_token", limit)])
    return content.decode()
