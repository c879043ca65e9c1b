"""Times as people write and read them."""

import pytest

from ohlcvd.report.times import iso, length, minute, moment, moment_us, read_moment

NOW_US = 1_772_366_400_000_000  # 2026-03-01 12:00 UTC
HOUR_US = 3_600_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", NOW_US - 2 * HOUR_US),
        (" 2H ", NOW_US - 2 * HOUR_US),
        ("90 m", NOW_US - HOUR_US - HOUR_US // 2),
        ("3d ago", NOW_US - 72 * HOUR_US),
        ("2 Weeks ago", NOW_US - 14 * 24 * HOUR_US),
        ("1 hour", NOW_US - HOUR_US),
        ("90 mins", NOW_US - HOUR_US - HOUR_US // 2),
        ("now", NOW_US),
        ("2026-03-01", NOW_US - 12 * HOUR_US),
        ("2026-03-01 11:00", NOW_US - HOUR_US),
        ("2026-03-01T11:00:00Z", NOW_US - HOUR_US),
        ("2026-03-01T12:00+02:00", NOW_US - 2 * HOUR_US),
        ("2030-01-01", NOW_US),  # nothing is known of the future
    ],
)
def test_many_ways_to_write_a_time(text: str, expected: int) -> None:
    assert read_moment(text).start_us(NOW_US) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "soon",
        "12",
        "2 wells",
        "2 dayss",
        "3 minutes hence",
        "2026-13-01",
        "1999-01-01",
        "-2h",
        "2h3m",
        "99999999d",
    ],
)
def test_what_is_no_time_is_told_what_is(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time: give how long ago"):
        read_moment(text)


def test_days_are_those_of_utc_and_a_time_may_lie_ahead() -> None:
    assert moment_us("today", NOW_US) == NOW_US - 12 * HOUR_US
    assert moment_us(" Yesterday", NOW_US) == NOW_US - 36 * HOUR_US
    assert moment_us("2h", NOW_US) == NOW_US - 2 * HOUR_US
    assert moment_us("2026-03-02", NOW_US) == NOW_US + 12 * HOUR_US
    with pytest.raises(ValueError, match="today, yesterday"):
        moment_us("tomorrow", NOW_US)


def test_times_are_as_fine_as_they_need_to_be() -> None:
    assert moment(NOW_US) == "2026-03-01 12:00:00"
    assert moment(NOW_US + 250_000) == "2026-03-01 12:00:00.25"
    assert moment(NOW_US + 1) == "2026-03-01 12:00:00.000001"
    assert minute(NOW_US + HOUR_US) == "2026-03-01 13:00"
    assert iso(NOW_US + 1) == "2026-03-01T12:00:00.000001Z"


@pytest.mark.parametrize(
    ("duration_us", "expected"),
    [
        (1, "1 us"), (1_500, "1.5 ms"), (250_000, "250 ms"), (1_000_000, "1s"), (65_400_000, "1m 5s"),
        (HOUR_US, "1h"), (25 * HOUR_US + 60_000_000, "1d 1h"), (24 * HOUR_US + 5_000_000, "1d"),
    ],
)  # fmt: skip
def test_lengths_have_at_most_two_units(duration_us: int, expected: str) -> None:
    assert length(duration_us) == expected
