"""Progress: what a report may say."""

import pytest
from tests.refusals import raises
from tests.uploads.samples import NOW, requested

from assetlane_server.model.errors import InvalidRequest
from assetlane_server.model.progress import progress_of


@pytest.mark.parametrize(
    ("sent", "limits", "names"),
    [({"large": 1}, [], ["original", "small"]), ({"small": 20_001}, [0, 20_000], []), ({"small": -1}, [0, 20_000], [])],
)
def test_an_impossible_report_is_refused(sent: dict[str, int], limits: list[int], names: list[str]) -> None:
    """The variant and its limit are named."""
    with raises(InvalidRequest, field=f"sent_bytes[{next(iter(sent))!r}]", limits=limits, names=names):
        progress_of(requested(), sent, NOW)
