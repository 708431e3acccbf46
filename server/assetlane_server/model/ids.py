"""What the id of an upload says: when it was made, by the ledger's clock. Pure.

An id is a ULID in lower case: 48 bits of milliseconds in 10 characters, then 80 bits of chance
(https://github.com/ulid/spec).
"""

import re
from datetime import timedelta
from typing import Final

_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES: Final = {digit: value for value, digit in enumerate(_DIGITS)}
_ID: Final = re.compile(rf"[0-7][{_DIGITS}]{{25}}")
_TIME_DIGITS: Final = 10


def is_id(text: str) -> bool:
    """Returns whether this may be the id of an upload."""
    return _ID.fullmatch(text) is not None


def earliest_id(upload_id: str, before: timedelta) -> str:
    """Returns the smallest id of so long before that one."""
    milliseconds = 0
    for digit in upload_id[:_TIME_DIGITS]:
        milliseconds = milliseconds * 32 + _VALUES[digit]
    milliseconds = max(0, milliseconds - before // timedelta(milliseconds=1))
    digits = ""
    for _ in range(_TIME_DIGITS):
        milliseconds, value = divmod(milliseconds, 32)
        digits = _DIGITS[value] + digits
    return digits + _DIGITS[0] * 16
