"""The rest of the browser tests, with Envoy before the server: see test_envoy."""

import pytest
from tests.web.test_browser import (
    test_a_closed_tab_frees_its_watch,
    test_a_file_reads_back_byte_for_byte,
    test_a_killed_server_costs_a_watch_nothing,
    test_a_picture_gets_its_cuts_from_the_canvas,
    test_a_second_put_that_finds_the_object_there_is_a_success,
    test_a_wrong_label_is_corrected_and_a_broken_picture_is_stored_with_a_notice,
    test_errors_are_typed_by_reason,
    test_pause_resume_and_cancel,
    test_read_urls_are_refreshed_before_they_end,
    test_what_the_browser_cannot_read_is_cut_by_the_server,
)
from tests.web.test_envoy import shared_place
from tests.web.test_outbox import (
    test_a_killed_server_only_delays_the_outbox,
    test_a_refused_file_stays_with_its_reason_and_other_users_see_none,
)

__all__ = [
    "shared_place",
    "test_a_closed_tab_frees_its_watch",
    "test_a_file_reads_back_byte_for_byte",
    "test_a_killed_server_costs_a_watch_nothing",
    "test_a_killed_server_only_delays_the_outbox",
    "test_a_picture_gets_its_cuts_from_the_canvas",
    "test_a_refused_file_stays_with_its_reason_and_other_users_see_none",
    "test_a_second_put_that_finds_the_object_there_is_a_success",
    "test_a_wrong_label_is_corrected_and_a_broken_picture_is_stored_with_a_notice",
    "test_errors_are_typed_by_reason",
    "test_pause_resume_and_cancel",
    "test_read_urls_are_refreshed_before_they_end",
    "test_what_the_browser_cannot_read_is_cut_by_the_server",
]
pytestmark = [
    pytest.mark.web, pytest.mark.browser, pytest.mark.long, pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="module"),
]  # fmt: skip
