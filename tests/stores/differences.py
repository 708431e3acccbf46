"""What stores of other makers do otherwise than the tests want, each with its reason: those tests have to fail.

A test that passes though it is named here fails the run, so that the lists stay true. A name is a test's and, after
a colon, its parameter's; the store that a test runs on beside the real one is left out.
"""

from collections.abc import Mapping
from typing import Final

_NOT_CHECKED = "it takes x-amz headers that were not signed"
_NOT_OBEYED = "it takes headers that were not signed, and does nothing with them"

DIFFERENCES: Final[Mapping[str, Mapping[str, str]]] = {
    "versitygw": {},
    "ministack": {
        "test_a_broken_promise_stores_nothing: an added redirect": _NOT_CHECKED,
        "test_a_broken_promise_stores_nothing: added metadata": _NOT_CHECKED,
        "test_a_broken_promise_of_a_part_stores_nothing: an added right": _NOT_CHECKED,
    },
    "minio": {
        "test_a_broken_promise_stores_nothing: an added right": _NOT_OBEYED,
        "test_a_broken_promise_stores_nothing: an added redirect": _NOT_OBEYED,
        "test_a_broken_promise_of_a_part_stores_nothing: an added right": _NOT_OBEYED,
        "test_a_broken_promise_stores_nothing: a later life in the query too": (
            "of two X-Amz-Expires it counts the first, which is the signed one"
        ),
    },
}


def difference(store: str, test: str) -> str:
    """Returns why a test, by its id, has to fail on a store; empty: it has to pass."""
    for name, reason in DIFFERENCES.get(store, {}).items():
        function, _, parameter = name.partition(": ")
        if f"::{function}[" in test and test.endswith((f"[{parameter}]", f"[s3-{parameter}]")):
            return reason
    return ""
