"""What the MongoDB driver says, as an operator can read it."""

import re

from pymongo.errors import PyMongoError

_DETAILS = re.compile(r"\[Errno -?\d+\] | ?\(configured timeouts: [^)]*\)")
_MAX_LENGTH = 300


def driver_message(error: PyMongoError) -> str:
    """Returns the first line, without error numbers and timeouts: the rest is a dump of its view of the topology."""
    said = str(error).split(", Timeout:")[0].split(", full error:")[0].partition("\n")[0]
    return _DETAILS.sub("", said)[:_MAX_LENGTH]
