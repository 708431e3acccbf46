"""Progress: what a report may say."""

import pytest
from tests.uploads.samples import NOW, requested

from assetlane_server.model.errors import InvalidRequest
from assetlane_server.model.progress import progress_of


@pytest.mark.parametrize(
    ("sent", "limit"),
    [({"large": 1}, "only original, small"), ({"small": 20_001}, "from 0 to 20,000"), ({"small": -1}, "from 0")],
)
def test_an_impossible_report_is_refused(sent: dict[str, int], limit: str) -> None:
    """The variant and its limit are named."""
    with pytest.raises(InvalidRequest, match=limit):
        progress_of(requested(), sent, NOW)
