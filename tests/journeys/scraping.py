"""Metrics as Prometheus reads them."""

from dataclasses import dataclass

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.log_events import events_of, logged

HERE = "127.0.0.1:0"


def addresses(log: str | pytest.LogCaptureFixture) -> list[str]:
    """Returns where metrics are: each server has logged it, this process or one with a log in JSON."""
    if isinstance(log, str):
        return [f"http://{line['listen']}" for line in events_of(log, "METRICS_SERVED")]
    return [f"http://{record.listen}" for record in logged(log, "METRICS_SERVED")]


@dataclass(frozen=True)
class Scrape:
    """What one reading has returned."""

    samples: tuple[tuple[str, dict[str, str], float], ...]

    def value(self, name: str, **labels: str) -> float:
        """Returns the sum of the samples with this name and these labels."""
        return sum(value for found, has, value in self.samples if found == name and labels.items() <= has.items())

    def labels(self, name: str, label: str) -> set[str]:
        """Returns the values that a label has."""
        return {has[label] for found, has, _ in self.samples if found == name}


async def scraped(address: str) -> Scrape:
    """Reads the metrics once."""
    async with aiohttp.ClientSession() as web, web.get(f"{address}/metrics") as response:
        assert response.status == 200
        families = text_string_to_metric_families(await response.text())
        return Scrape(tuple((one.name, one.labels, one.value) for family in families for one in family.samples))


async def health(address: str) -> tuple[int, str]:
    """Returns what a health check is answered."""
    async with aiohttp.ClientSession() as web, web.get(f"{address}/healthz") as response:
        return response.status, (await response.text()).strip()
