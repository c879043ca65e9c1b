"""Every error that ohlcvd raises, one name per condition, and the exit code each leads to.

Codes follow sysexits.h where it has a fitting one; systemd and supervisord are told not to restart after 78.
A message is one sentence that a user can act on: what, where, what was expected.
"""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    NO = 1  # the answer is no: demo or verify found a difference, gaps found some
    NOT_RUNNING = 3  # status only (LSB)
    UNKNOWN = 4  # status only (LSB)
    USAGE = 64
    UNAVAILABLE = 69  # a needed service cannot be reached (one-shot commands)
    BUG = 70
    ALREADY_RUNNING = 75
    PERMISSION = 77
    CONFIG = 78


class OhlcvdError(Exception):
    """The root of all errors raised on purpose."""

    exit_code: Exit = Exit.BUG


class UsageError(OhlcvdError):
    """A command was called with words that do not fit."""

    exit_code = Exit.USAGE


class ConfigError(OhlcvdError):
    """The configuration is wrong; nothing starts until it is changed."""

    exit_code = Exit.CONFIG


class ServiceUnavailable(OhlcvdError):
    """A database, cache or exchange that is needed now cannot be reached."""

    exit_code = Exit.UNAVAILABLE


class AlreadyRunning(OhlcvdError):
    """Another supervisor holds the lock."""

    exit_code = Exit.ALREADY_RUNNING


class PermissionRefused(OhlcvdError):
    """The operating system or the database refuses what is asked of it."""

    exit_code = Exit.PERMISSION


class EmbeddedServerError(OhlcvdError):
    """A private PostgreSQL or Valkey cannot be set up or started."""

    exit_code = Exit.UNAVAILABLE


class ExchangeError(OhlcvdError):
    """An exchange answered, but not with what was asked for."""

    exit_code = Exit.UNAVAILABLE


class ExchangeUnavailable(ExchangeError):
    """An exchange cannot be reached, or asks for a pause of `retry_after_s`."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class MalformedAnswer(ExchangeError):
    """A frame or an answer that is not what the venue's protocol says."""


class UnknownSymbol(ExchangeError):
    """The exchange does not list this symbol."""


class DatabaseTooNew(ConfigError):
    """The database was migrated by a newer ohlcvd than this one."""


def error_of(code: object, message: str) -> OhlcvdError:
    """The error that another process ended or answered with, by its exit code."""
    kinds = (UsageError, ConfigError, ServiceUnavailable, AlreadyRunning, PermissionRefused)
    return next((kind(message) for kind in kinds if kind.exit_code == code), OhlcvdError(message))
