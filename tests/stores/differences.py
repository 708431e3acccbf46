"""What stores of other makers do otherwise than the tests want, each with its reason: those tests have to fail.

A test that passes though it is named here fails the run, so that the lists stay true. A name stands for all tests
whose id contains it.
"""

from collections.abc import Mapping
from typing import Final

DIFFERENCES: Final[Mapping[str, Mapping[str, str]]] = {
    "versitygw": {},
    "ministack": {},
    "minio": {},
}
