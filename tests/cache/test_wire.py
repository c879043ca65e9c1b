"""What is sent to Redis, beside what redis-py would send."""

from redis.asyncio.connection import Connection

from ohlcvd.cache.keys import Command
from ohlcvd.cache.wire import packed


def test_commands_are_packed_as_redis_py_packs_them() -> None:
    commands: list[Command] = [
        ("PING",),
        ("SET", "ohlcvd:candle:kraken:ÆÐ/USD \udc80", "", "EX", 120),
        ("XADD", b"key \xff\r\n", "MAXLEN", "~", 1000, "*", "rows", "x" * 20_000),
    ]
    connection = Connection(encoding_errors="backslashreplace")
    assert packed(commands) == b"".join(connection.pack_commands(commands))
