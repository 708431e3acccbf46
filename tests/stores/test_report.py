"""What the report of `make test-real` says, and what it keeps to itself."""

import json

from tests.stores.real import outcomes_in, report_of

ADDRESS = "https://store.example/bucket?X-Amz-Signature=abc"
JUNIT = f"""<testsuites><testsuite name="pytest">
<testcase classname="tests.contracts.test_object_store" name="test_a" time="0.123"/>
<testcase classname="tests.journeys.test_multipart" name="test_b[{ADDRESS}]" time="2.5">
<failure message="AssertionError: {ADDRESS}">def test_b():
&gt;       assert get("{ADDRESS}") == 200
E       AssertionError: {ADDRESS}

tests/journeys/test_multipart.py:42: AssertionError</failure></testcase>
<testcase classname="tests.journeys.test_c" name="test_c" time="0"><skipped message="{ADDRESS}"/></testcase>
</testsuite></testsuites>"""


def test_a_report_names_what_failed_and_where() -> None:
    """With times; counted by outcome."""
    tests = outcomes_in(JUNIT)
    assert tests == [
        {"test": "tests.contracts.test_object_store.test_a", "outcome": "passed", "seconds": 0.12},
        {
            "test": "tests.journeys.test_multipart.test_b[…]",
            "outcome": "failed",
            "seconds": 2.5,
            "place": "tests/journeys/test_multipart.py:42",
            "kind": "AssertionError",
        },
        {"test": "tests.journeys.test_c.test_c", "outcome": "skipped", "seconds": 0.0},
    ]
    assert report_of({}, tests, 3.0)["outcomes"] == {"passed": 1, "failed": 1, "skipped": 1}


def test_a_report_holds_no_address_and_no_message() -> None:
    """It is sent to others."""
    text = json.dumps(report_of({}, outcomes_in(JUNIT), 3.0), ensure_ascii=False)
    assert "store.example" not in text
    assert "Signature" not in text
