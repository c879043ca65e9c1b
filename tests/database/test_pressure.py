"""Reading pauses while the server is behind, and only where that helps."""

from ohlcvd.database.pressure import MOST_ROWS, PRESSING_ROWS, Pressure


def test_reading_pauses_when_much_waits_and_goes_on_when_half_of_it_is_stored() -> None:
    told: list[bool] = []
    pressure = Pressure()
    pressure.tell = told.append
    for rows in (PRESSING_ROWS - 1, PRESSING_ROWS, PRESSING_ROWS + 500, PRESSING_ROWS // 2, PRESSING_ROWS // 2 - 1):
        pressure.judge(rows, helps=True)
    assert told == [True, False]
    assert not pressure.is_on


def test_where_pausing_cannot_help_reading_goes_on_to_the_last_bound() -> None:
    told: list[bool] = []
    pressure = Pressure()
    pressure.tell = told.append
    pressure.judge(PRESSING_ROWS, helps=True)
    pressure.judge(PRESSING_ROWS, helps=False)  # the spool takes over
    assert told == [True, False]
    pressure.judge(MOST_ROWS, helps=False)
    assert told == [True, False, True]
