"""One line an event: a constant name and fields, as key=value or as JSON, on standard error."""

from __future__ import annotations

import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")
_NEEDS_QUOTES = frozenset(' "=\\\t\r\n')


def _quoted(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if text and text.isprintable() and not _NEEDS_QUOTES.intersection(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in escaped) + '"'


class _Formatter(logging.Formatter):
    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        if self._as_json:
            import json  # only who asks for JSON pays for it

            return json.dumps(fields, default=str)
        return " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())


class Repeats:
    """Counts lines that say the same in quick succession, the last few hundred different ones."""

    def __init__(
        self, quiet_seconds: float = 60.0, most: int = 256, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._quiet_seconds = quiet_seconds
        self._most = most
        self._clock = clock
        self._seen: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()

    def count(self, line: Hashable) -> int:
        """How often `line` came, this time included, since it was last silent for a while."""
        now = self._clock()
        times, last = self._seen.pop(line, (0, now))
        times = times + 1 if now - last <= self._quiet_seconds else 1
        self._seen[line] = times, now
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)
        return times


class Logger:
    """Logs events with fields; a field that is None is left out.

    Warnings and errors that repeat within a minute are written on their 1st, 2nd, 4th, 8th … time, with `count`.
    """

    def __init__(self, name: str, repeats: Repeats | None = None) -> None:
        self._logger = logging.getLogger(f"nvidia_devplugin.{name}")
        self._repeats = repeats or Repeats()

    def debug(self, event: str, **fields: Any) -> None:
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._log(logging.INFO, event, fields)

    def counted(self, event: str, **fields: Any) -> None:
        """As info, for what may come in floods: repetitions are counted as those of warnings are."""
        self._log(logging.INFO, event, fields, counted=True)

    def warning(self, event: str, **fields: Any) -> None:
        self._log(logging.WARNING, event, fields, counted=True)

    def error(self, event: str, exc_info: BaseException | None = None, **fields: Any) -> None:
        self._log(logging.ERROR, event, fields, exc_info, counted=True)

    def _log(
        self,
        level: int,
        event: str,
        fields: dict[str, Any],
        exc_info: BaseException | None = None,
        counted: bool = False,
    ) -> None:
        if self._logger.isEnabledFor(level):
            present = {key: value for key, value in fields.items() if value is not None}
            if counted:
                times = self._repeats.count((event, *((key, str(value)) for key, value in present.items())))
                if not worth_a_line(times):
                    return
                if times > 1:
                    present["count"] = times
            self._logger.log(level, "%s", event, extra={"fields": present}, exc_info=exc_info)


def set_up(level: str, form: str) -> None:
    """Send all logs to standard error; `level` is one of LEVELS, `form` one of FORMATS."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(form == "json"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("asyncio").setLevel("WARNING")


def worth_a_line(attempt: int) -> bool:
    """True for the 1st, 2nd, 4th, 8th … attempt: a repeated failure is counted, not repeated."""
    return attempt & (attempt - 1) == 0
