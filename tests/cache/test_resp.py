"""What is written by hand is what redis-py would write, and replies are read whole or not at all."""

import pytest
from redis.asyncio.connection import Connection

from ohlcvd.cache import keys, resp
from ohlcvd.cache.keys import Command
from tests.cache.samples import BTC, ETH, NOW_US, Commit, candle, trade


def test_commands_are_packed_as_redis_py_packs_them() -> None:
    commands: list[Command] = [
        ("PING",),
        ("SET", "ohlcvd:candle:kraken:ÆÐ/USD \udc80", "", "EX", 120),
        ("XADD", b"key \xff\r\n", "MAXLEN", "~", 1000, "*", "rows", "x" * 20_000),
    ]
    connection = Connection(encoding_errors=resp.ODD)
    assert resp.pack(commands) == b"".join(connection.pack_commands(commands))


def test_entries_are_packed_as_the_library_packs_them() -> None:
    odd = BTC._replace(symbol="Bürger\ud800/USD")
    commit = Commit({BTC: [trade(7), trade(8)], ETH: [trade(1)], odd: [trade(2)]}, {BTC: [candle(0)]})
    entries = [*keys.stream_entries(commit, NOW_US)]
    library = Connection(encoding_errors=resp.ODD)
    assert resp.are_entries(entries)
    assert resp.pack_entries(entries) == b"".join(library.pack_commands(entries))
    assert not resp.are_entries([*entries, ("PING",)])


@pytest.mark.parametrize("refused", [(), (0,), (1, 2)])
def test_replies_are_whole_or_none(refused: tuple[int, ...]) -> None:
    expected = [b"-OOM no room for $1" if n in refused else b"1763798400000-%d" % n for n in range(3)]
    data = b"".join(b"%b\r\n" % one if one[:1] == b"-" else b"$%d\r\n%b\r\n" % (len(one), one) for one in expected)
    for end in range(len(data)):
        assert resp.replies(data[:end], 3) is None, data[:end]
    assert resp.replies(data, 3) == expected
