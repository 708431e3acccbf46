"""The settings as a server would use them: what they are, where each comes from, and no secret."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from pydantic import SecretStr

from assetlane_server.config.settings import Settings
from assetlane_server.config.sources import PREFIX
from assetlane_server.telemetry.redaction import HIDDEN, Redaction


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """One setting. A secret that is set shows as `***`."""

    name: str  # of its variable
    value: object  # as JSON has it; None: unset
    source: str  # `environment`, `file`, `secret file` or `default`

    def line(self) -> str:
        """Returns it for eyes."""
        value = "unset" if self.value is None else "empty" if self.value == "" else self.value
        return f"{self.name:<36} {self.source:<12} {value}"

    def json(self) -> str:
        """Returns it for programs."""
        return json.dumps(asdict(self))


def effective(settings: Settings) -> Iterator[EffectiveSetting]:
    """Yields every setting, in the order of docs/configuration.md."""
    redaction = Redaction()
    for name in Settings.model_fields:
        value = _shown(getattr(settings, name), redaction)
        yield EffectiveSetting(PREFIX + name.upper(), value, settings.source_of(name))


def _shown(value: object, redaction: Redaction) -> object:
    match value:
        case SecretStr():
            return HIDDEN
        case bool() | int() | float() | None:
            return value
        case tuple():
            return ",".join(map(str, value))
        case _:
            return redaction.clean(str(value))  # a URL may carry a password
