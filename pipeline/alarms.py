"""Alarms: what the state of a day remembers of an alert, so that it fires once and not again before it was re-armed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from msgspec import Struct

from schemas.alerting import AlertKind

#: What an alarm is about, within its day: kind, meter ("": all), package ("": none), threshold as text ("": none).
AlarmKey = tuple[AlertKind, str, str, str]
#: An alarm in a state entry: its key, firings, active, level.
AlarmRow = tuple[AlertKind, str, str, str, int, bool, Decimal]


@dataclass(slots=True)
class Alarm:
    """A latch. `firings` of the day; `active`: it has fired and was not re-armed since.

    `level` is what it fired for: the threshold, the amount or, for a forecast, the quota.
    """

    firings: int
    active: bool
    level: Decimal


@dataclass(frozen=True, slots=True)
class Fired:
    """An alarm that fired and was not said yet; `firing` counts from 1. The rest as in `schemas.wire.Alert`."""

    key: AlarmKey
    day: date
    firing: int
    version: int
    value: int = 0
    quota: int = 0
    exhausts_at: datetime | None = None
    amount: Decimal | None = None


class Alarms(Struct):
    """All alarms of a day that ever fired."""

    _alarms: dict[AlarmKey, Alarm] = {}

    @classmethod
    def of(cls, rows: list[AlarmRow]) -> Alarms:
        """From the state entry of the day."""
        return cls(
            {
                (kind, meter, package, text): Alarm(firings, active, level)
                for kind, meter, package, text, firings, active, level in rows
            }
        )

    def __len__(self) -> int:
        return len(self._alarms)

    def rows(self) -> list[AlarmRow]:
        """For the state entry of the day."""
        return [(*key, alarm.firings, alarm.active, alarm.level) for key, alarm in self._alarms.items()]

    def level(self, key: AlarmKey) -> Decimal | None:
        """What an alarm fired for; None while it may fire."""
        alarm = self._alarms.get(key)
        return alarm.level if alarm is not None and alarm.active else None

    def rearm(self, key: AlarmKey) -> None:
        """From now on it may fire again."""
        self._alarms[key].active = False

    def fire(self, key: AlarmKey, level: Decimal) -> int:
        """The number of this firing."""
        alarm = self._alarms.setdefault(key, Alarm(0, False, level))
        alarm.firings, alarm.active, alarm.level = alarm.firings + 1, True, level
        return alarm.firings
