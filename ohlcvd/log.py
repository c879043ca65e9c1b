"""Logs: JSON lines in a file, readable lines on a terminal, keyword fields on both. Logging never stops the process.

    log = get_component_logger("ohlcvd.ohlcv.collector.kraken.BTC/USD")
    log.info("stored %d candles", 500, exchange="kraken", symbol="BTC/USD")

Every line of a file has `time` (UTC), `level`, `component`, `message` and `pid`, then the keyword fields (one that has
a name of ours gets an underscore behind it), then `exception`. Lines are valid JSON whatever is logged, hold no
control characters, and reach the file by one write each, so that `tail -F` and several processes get along with it.
What is repeated is counted instead (`logfold`): such a line has `repeated` and `within_s`.
A file that is moved away is left with the next line; `reopen_logs` makes the new one at once. That is safe inside a
signal handler: it swaps the file beneath the descriptor.
"""

import contextlib
import json
import logging
import math
import os
import re
import sys
import time
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from pythonjsonlogger.core import BaseJsonFormatter

from ohlcvd.errors import ConfigError, PermissionRefused
from ohlcvd.logfold import FOLDS, Folding, repeated
from ohlcvd.terminal import BOLD, DIM, RED, YELLOW, coloured, safe, wants_colour

OWN_FIELDS = ("time", "level", "component", "message", "pid", "exception")

_ROOTS = ("ohlcvd", "asyncio", "py.warnings")
_FIELDS = "ohlcvd_fields"
_MAX_DEPTH = 6
# C1 control characters (0x9b begins a terminal sequence as ESC [ does), line separators, overrides of text direction.
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_COLLECTOR = re.compile(r"(ohlcv|trade)\.(?:collector|manager)\.([^.]+)(?:\.(.+))?")
_COLOURS = {"DEBUG": DIM, "WARNING": YELLOW, "ERROR": RED, "CRITICAL": f"{BOLD};{RED}"}


class ComponentLogger:
    """Logs for one component. Arguments fill %s in the message, only if the line is wanted; keywords become fields.

    The keyword `exc_info`, an exception or True for the one being handled, adds its traceback.
    """

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    @property
    def name(self) -> str:
        """The component."""
        return self._logger.name

    def debug(self, message: str, /, *args: object, **fields: object) -> None:
        """For whoever looks for a fault."""
        self._log(logging.DEBUG, message, args, fields)

    def info(self, message: str, /, *args: object, **fields: object) -> None:
        """The story of a day."""
        self._log(logging.INFO, message, args, fields)

    def recovered(self, message: str, /, *args: object, **fields: object) -> None:
        """INFO: what a warning told of is over. Counted where it is repeated, as warnings are."""
        self._log(logging.INFO, message, args, fields, folds=True)

    def warning(self, message: str, /, *args: object, **fields: object) -> None:
        """Something is not as it should be, and is being taken care of."""
        self._log(logging.WARNING, message, args, fields)

    def error(self, message: str, /, *args: object, **fields: object) -> None:
        """Somebody should look."""
        self._log(logging.ERROR, message, args, fields)

    def critical(self, message: str, /, *args: object, **fields: object) -> None:
        """Nothing goes on."""
        self._log(logging.CRITICAL, message, args, fields)

    def exception(self, message: str, /, *args: object, **fields: object) -> None:
        """An error with the traceback of the exception being handled."""
        self._log(logging.ERROR, message, args, {"exc_info": True} | fields)

    def is_enabled(self, level: int) -> bool:
        """Whether a line of this level would be written."""
        return self._logger.isEnabledFor(level)

    def _log(
        self, level: int, message: str, args: tuple[object, ...], fields: dict[str, object], *, folds: bool = False
    ) -> None:
        if not self._logger.isEnabledFor(level):
            return
        exception = fields.pop("exc_info", None)
        exc_info = exception if isinstance(exception, BaseException) else bool(exception)
        self._logger.log(level, message, *args, exc_info=exc_info, extra={_FIELDS: fields, FOLDS: folds}, stacklevel=3)


def get_component_logger(name: str) -> ComponentLogger:
    """The logger of a component, whose name begins with `ohlcvd.`."""
    return ComponentLogger(logging.getLogger(name))


def setup_logging(*, file: Path | None, level: str, terminal: bool) -> None:
    """Log to `file` and, with `terminal`, to stderr; what was set up before (before a fork, too) is closed."""
    handlers: list[logging.Handler] = [JsonFileHandler(file)] if file else []
    if terminal:
        handlers.append(TerminalHandler())
    shutdown_logging()
    folding = Folding(handlers, _fields_of)
    for handler in handlers:
        handler.addFilter(folding)
    for root in _ROOTS:
        logger = logging.getLogger(root)
        # asyncio and warnings tell of faults in the program; their INFO is not the story of a day.
        logger.setLevel(level if root == "ohlcvd" else logging.WARNING)
        logger.propagate = False
        for handler in handlers or [logging.NullHandler()]:
            logger.addHandler(handler)
    logging.captureWarnings(True)


def set_level(level: str) -> None:
    """From now on log what has this level or a higher one."""
    logging.getLogger("ohlcvd").setLevel(level)


def append_line(file: Path, level: int, component: str, message: str, /, **fields: object) -> None:
    """One line into the log file of a process that cannot write it any more. OhlcvdError if it cannot be opened."""
    record = logging.LogRecord(component, level, "", 0, message, (), None)
    setattr(record, _FIELDS, fields)
    handler = JsonFileHandler(file)
    try:
        handler.emit(record)
    finally:
        handler.close()


def shutdown_logging() -> None:
    """Close the files and give the loggers back to Python's defaults."""
    flush_repeats(everything=True)
    logging.captureWarnings(False)
    for root in _ROOTS:
        logger = logging.getLogger(root)
        for handler in logger.handlers[:]:
            if isinstance(handler, JsonFileHandler | TerminalHandler | logging.NullHandler):
                logger.removeHandler(handler)
                handler.close()
        logger.setLevel(logging.NOTSET)
        logger.propagate = True


def flush_repeats(*, everything: bool = False) -> None:
    """Write the counts of repeated lines that are due: for a process that may log nothing else for long."""
    for handler in logging.getLogger("ohlcvd").handlers[:1]:
        for each in handler.filters:
            if isinstance(each, Folding):
                each.flush(everything=everything)


def reopen_logs() -> None:
    """Go on in a new file of the same name, after a rotation has moved the old one away."""
    for handler in logging.getLogger("ohlcvd").handlers:
        if isinstance(handler, JsonFileHandler):
            handler.reopen()


class JsonFileHandler(logging.Handler):
    """Appends JSON lines. A line that cannot be written is counted, and the count is logged as soon as one can."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.lost = 0
        self._torn = False  # a line was written in part: the next one begins a new line
        self._reason = ""
        self.setFormatter(JsonLines())
        try:
            self._fd = self._open()
        except PermissionError as error:
            raise PermissionRefused(f"log file {path}: cannot be written by this user ({error.strerror})") from error
        except OSError as error:
            raise ConfigError(f"log file {path}: cannot be opened: {error.strerror}") from error

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        if self.lost:
            note = logging.LogRecord("ohlcvd.log", logging.WARNING, "", 0, "log lines could not be written", (), None)
            setattr(note, _FIELDS, {"lines": self.lost, "reason": self._reason})
            if not self._write(self.format(note)):
                self.lost += 1
                return
            self.lost = 0
        if not self._write(self.format(record)):
            self.lost += 1

    def reopen(self) -> None:
        """Swap the file; on failure the old one goes on."""
        reason = self._swap()
        if reason is not None:
            get_component_logger("ohlcvd.log").error(
                "log file cannot be reopened, the old one goes on", file=self.path, reason=reason
            )

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        super().close()

    def _swap(self) -> str | None:
        """Go on in the file that has the name now; why not, if that fails."""
        try:
            fd = self._open()
        except OSError as error:
            return error.strerror or str(error)
        # dup2 is atomic: a line that is being written by the code this signal interrupted goes to one file or the other
        os.dup2(fd, self._fd, inheritable=False)
        os.close(fd)
        self._torn = False
        return None

    def _is_elsewhere(self) -> bool:
        """Whether the file was moved away or removed, looked for just before a line is written: `tail -F` leaves the
        old file as soon as it is moved, and would not see what is still written there until a signal says so."""
        here = os.fstat(self._fd)
        try:
            there = os.stat(self.path)
        except OSError:
            return True
        return here.st_ino != there.st_ino or here.st_dev != there.st_dev

    def _open(self) -> int:
        # O_NONBLOCK is for what is no file: a named pipe that nobody reads must not hold up the process.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        return os.open(self.path, flags, 0o640)

    def _write(self, line: str) -> bool:
        # A lone surrogate, from a file name for instance, becomes \udc80, which JSON allows.
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        try:
            if self._is_elsewhere():
                self._swap()
            data = b"\n" + data if self._torn else data
            written = os.write(self._fd, data)
        except OSError as error:
            self._reason = error.strerror or str(error)
            return False
        self._torn = written < len(data)
        if self._torn:
            self._reason = "the disk took a part of a line"
        return not self._torn


class TerminalHandler(logging.Handler):
    """Readable lines on stderr, coloured if that is a terminal; one that has gone away is nothing to speak of."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        stream = sys.stderr
        if stream is None:  # it was closed before we began
            return
        line = readable(_document_or_excuse(record), colour=wants_colour(stream))
        with contextlib.suppress(OSError, ValueError):  # gone, full, or closed
            stream.write(line + "\n")
            stream.flush()


class JsonLines(BaseJsonFormatter):
    """One record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        return self.serialize_log_record(_document_or_excuse(record))

    def jsonify_log_record(self, log_data: Mapping[str, object]) -> str:
        """JSON, with every character escaped that a reader of lines or a terminal would take for more than text."""
        text = json.dumps(log_data, ensure_ascii=False)
        return text if text.isascii() and "\x7f" not in text else _UNSAFE_IN_JSON.sub(_json_escape, text)


def document_of(record: logging.LogRecord) -> dict[str, object]:
    """What a record says, in plain values that JSON has."""
    document: dict[str, object] = {
        "time": _utc(record.created),
        "level": record.levelname,
        "component": record.name,
        "message": _message(record),
        "pid": os.getpid(),
    }
    note = repeated(record)
    if note is not None:
        times = "once" if note[0] == 1 else f"{note[0]} times"
        document["message"] = f"{document['message']} (repeated {times} in {note[1]} s)"
        document |= {"repeated": note[0], "within_s": note[1]}
    for name, value in _fields_of(record).items():
        document[f"{name}_" if name in OWN_FIELDS else name] = _plain(value, _MAX_DEPTH)
    if record.exc_info and record.exc_info[0] is not None:
        document["exception"] = logging.Formatter().formatException(record.exc_info)
    if record.stack_info:
        document["stack"] = record.stack_info
    return document


def _fields_of(record: logging.LogRecord) -> Mapping[str, object]:
    fields: Mapping[str, object] = getattr(record, _FIELDS, {})
    return fields


def _document_or_excuse(record: logging.LogRecord) -> dict[str, object]:
    try:
        return document_of(record)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the values, logging them must not be fatal
        excuse = f"a log line of {record.name} cannot be shown: {type(error).__name__}"
        return document_of(logging.LogRecord("ohlcvd.log", logging.ERROR, "", 0, excuse, (), None))


def readable(document: Mapping[str, object], *, colour: bool = False) -> str:
    """A line for people, from a record's document or from a line of a log file: times are UTC.

    `12:00:01 INFO    kraken BTC/USD trade  connected, 3 symbols  attempt=1`
    """
    level, component = str(document.get("level", "")), str(document.get("component", ""))
    collector = _COLLECTOR.fullmatch(component.removeprefix("ohlcvd."))
    shown_already: dict[str, str | None] = {}
    where = component.removeprefix("ohlcvd.")
    if collector:
        kind, exchange, symbol = collector.groups()
        where = " ".join(part for part in (exchange, symbol, kind) if part)
        shown_already = {"exchange": exchange, "symbol": symbol}
    fields = [
        f"{name}={_short(value)}"
        for name, value in document.items()
        if name not in (*OWN_FIELDS, "stack", "repeated", "within_s")
        and not isinstance(value, dict)  # for programs; the message says it in words
        and (name not in shown_already or value != shown_already[name])
    ]
    words = [f"{str(document.get('time', ''))[11:19]} {level:<7} {where} ", str(document.get("message", ""))]
    line = safe("  ".join([" ".join(words), *fields]))
    if colour and level in _COLOURS:
        line = coloured(line, _COLOURS[level])
    for name in ("exception", "stack"):
        for below in str(document.get(name) or "").split("\n"):
            line += "\n    " + safe(below) if below else ""
    return line


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - a wrong %s, or any fault of an argument's own code, must not be fatal
        return f"{record.msg} {_text(record.args)} ({type(error).__name__} while formatting)"


def _plain(value: object, depth: int) -> object:
    """The value in what JSON has; anything else as its text."""
    if value is None or isinstance(value, bool):
        return value
    if type(value) is str:
        return value
    if isinstance(value, int):
        return int(value) if value.bit_length() <= 256 else hex(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, Decimal | Path) or depth == 0:
        return _text(value)
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {_text(value)}"
    if isinstance(value, Mapping):
        return {_text(key): _plain(each, depth - 1) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, depth - 1) for each in value]
    return _text(value)


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - a broken __str__ of what is logged must not be fatal
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _utc(created: float) -> str:
    seconds, milliseconds = divmod(int(created * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{milliseconds:03d}Z"


def _json_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
