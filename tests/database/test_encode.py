"""The hand-made binary formats against PostgreSQL itself and Decimal."""

from collections.abc import Iterator
from decimal import Decimal

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection

from ohlcvd.database import encode
from ohlcvd.market import Trade, plain_digits

digits = st.text("0123456789", min_size=1, max_size=40)
zeros = st.integers(0, 12).map(lambda n: "0" * n)
plain = st.one_of(
    digits,
    st.builds(lambda a, b: f"{a}.{b}", digits, digits),
    # what prices look like: zeros at either end
    st.builds(lambda z, a, b, y: f"{z}{a}.{y}{b}{z}", zeros, st.integers(0, 10**9), st.integers(0, 10**9), zeros),
    st.builds(lambda m, e: plain_digits(f"{m}E{e}"), st.integers(1, 10**6), st.integers(-40, 40)),
)
EDGES = [
    "0", "0.0", "00", "1", "10", "10000", "100000000", "99999999.99999999", "9999", "9999.9999", "0.0001", "0.00000001",
    "0.000000000000000001", "123456789012345678901234567890.123456789012345678901234567890", "1.500", "5", "0.10",
    "000123.4500", "12345678.1", "123456789.1", "1.123456789", "0." + "0" * 100 + "1", "1" + "0" * 300,
]  # fmt: skip


@pytest.fixture(scope="module")
def connection(module_database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(module_database, autocommit=True) as connection:
        connection.execute("CREATE TEMP TABLE numbers (n numeric)")
        yield connection


def through_copy(connection: psycopg.Connection, texts: list[str]) -> list[tuple[str, int]]:
    """Digits and size that the server has after a binary COPY of our encoding."""
    connection.execute("TRUNCATE numbers")
    with connection.cursor() as cursor, cursor.copy("COPY numbers FROM STDIN (FORMAT binary)") as copy:
        copy.write(encode.COPY_HEAD + b"".join(b"\0\1" + encode.numeric(t) for t in texts) + encode.COPY_TAIL)
    return connection.execute("SELECT n::text, pg_column_size(n) FROM numbers ORDER BY ctid").fetchall()


def through_text(connection: psycopg.Connection, texts: list[str]) -> list[tuple[str, int]]:
    """The same by the server's own parser."""
    connection.execute("TRUNCATE numbers")
    connection.cursor().executemany("INSERT INTO numbers VALUES (%s::text::numeric)", [(t,) for t in texts])
    return connection.execute("SELECT n::text, pg_column_size(n) FROM numbers ORDER BY ctid").fetchall()


def test_edges_arrive_as_the_server_itself_reads_them(connection: psycopg.Connection) -> None:
    assert through_copy(connection, EDGES) == through_text(connection, EDGES)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(plain, min_size=1, max_size=30))
@example(["0.5", "00.50"])
def test_any_decimal_text_arrives_digit_for_digit(connection: psycopg.Connection, texts: list[str]) -> None:
    arrived = through_copy(connection, texts)
    assert arrived == through_text(connection, texts)
    for text, (stored, _) in zip(texts, arrived, strict=True):
        assert Decimal(stored) == Decimal(text)
        assert Decimal(stored).as_tuple().exponent == Decimal(text).as_tuple().exponent


def test_the_largest_numbers_pass_and_larger_ones_are_refused_here(connection: psycopg.Connection) -> None:
    largest = ["9" * 12_000, "0." + "1" * 12_000, "1" + "0" * 131_071, "0." + "0" * 16_382 + "1"]
    assert [text for text, _ in through_copy(connection, largest)] == largest
    for text in ("9" * 12_001, "0." + "1" * 12_001, "1" + "0" * 131_072, "0." + "0" * 16_383 + "1"):
        with pytest.raises(ValueError, match="beyond PostgreSQL's numeric"):
            encode.numeric(text)


@pytest.mark.parametrize("text", ["0", "7", "123", "9223372036854775807"])
def test_a_whole_number_is_its_own_key(text: str) -> None:
    assert encode.split_id(text) == (int(text), True)


@pytest.mark.parametrize(
    "text", ["", "-1", "+5", "0123", "00", "1_0", " 1", "1.0", "abc", "9223372036854775808", "1e3", "١٢", "²", "\ud800"]
)
def test_any_other_text_gets_a_negative_key(text: str) -> None:
    key, is_number = encode.split_id(text)
    assert not is_number
    assert -(1 << 63) <= key < 0


@given(
    st.lists(
        st.integers(-3, 1 << 64).map(str)
        | st.sampled_from(["", "-1", "+5", "0123", "1_0", " 1", "1.0", "abc", "9223372036854775808", "١٢", "²"])
    )
)
def test_ids_are_split_alike_together_and_one_by_one(ids: list[str]) -> None:
    each = [encode.split_id(one) for one in ids]
    expected = [number for number, _ in each] if all(is_number for _, is_number in each) else None
    assert encode.whole_numbers(ids) == expected


@given(st.sets(st.text(max_size=40), min_size=2))
def test_different_ids_get_different_keys(ids: set[str]) -> None:
    assert len({encode.split_id(i) for i in ids}) == len(ids)


def test_numbers_of_trades_may_lack_and_have_64_bits(connection: psycopg.Connection) -> None:
    text = encode.int8_array([7, None, -(1 << 63), (1 << 63) - 1]).decode()
    assert connection.execute("SELECT %s::int8[]", (text,)).fetchone() == ([7, None, -(1 << 63), (1 << 63) - 1],)
    assert encode.int8_array([]) == b"{}"
    with pytest.raises(ValueError, match="64 bits"):
        encode.int8_array([1 << 64])


@pytest.mark.parametrize("place", [0, 1, 400, 998, 999])
def test_a_number_that_is_too_long_is_refused_wherever_it_stands(place: int) -> None:
    texts = ["1.50"] * 1_000
    texts[place] = "1" + "0" * 131_071
    assert len(encode.numeric_array(texts)) == 5 * 999 + 131_072 + 2
    texts[place] = "1" + "0" * 131_072
    with pytest.raises(ValueError, match="beyond PostgreSQL's numeric"):
        encode.numeric_array(texts)


async def test_arrays_and_copy_rows_carry_the_same_values(module_database: str) -> None:
    rows: list[encode.TradeRow] = [
        (1, 42, None, Trade(1_772_366_400_123_456, "42", "0.10", "5", "buy")),
        (-5, -7, 3, Trade(-1, "tx-é", "123456789.5", "0.000000000000000001", "sell")),
        (2**31 - 1, 2**63 - 1, 0, Trade(0, str(2**63 - 1), "1", "2.50", "sell")),
    ]
    async with await AsyncConnection.connect(module_database, autocommit=True) as connection:
        encode.register_arrays(connection)
        await connection.execute(
            """CREATE TEMP TABLE rows (ts timestamptz, trade_id bigint, instrument_id int, side "char",
               price numeric, amount numeric, venue_id text, ordinal int)"""
        )
        async with connection.cursor() as cursor, cursor.copy("COPY rows FROM STDIN (FORMAT binary)") as copy:
            await copy.write(encode.COPY_HEAD + encode.copy_rows(rows) + encode.COPY_TAIL)
        select = """SELECT (extract(epoch FROM ts) * 1000000)::bigint, trade_id, instrument_id, side::text,
                           price::text, amount::text, venue_id, ordinal FROM """
        copied = await (await connection.execute(f"{select} rows".encode())).fetchall()
        names = "(ts, trade_id, instrument_id, side, price, amount, venue_id, ordinal)"
        unnested = await connection.execute(
            f"{select} unnest(%s, %s, %s, %s, %s, %s, %s, %s) AS n {names}".encode(), encode.trade_columns(rows)
        )
        assert await unnested.fetchall() == copied
    assert copied == [
        (1_772_366_400_123_456, 42, 1, "b", "0.10", "5", None, None),
        (-1, -7, -5, "s", "123456789.5", "0.000000000000000001", "tx-é", 3),
        (0, 2**63 - 1, 2**31 - 1, "s", "1", "2.50", None, 0),
    ]
