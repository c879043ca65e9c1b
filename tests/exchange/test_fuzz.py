"""Ten thousand broken frames and answers; `bin/test --long fuzz` does many more."""

from tests.exchange import fuzzing


async def test_nothing_that_a_venue_sends_breaks_the_reading_or_the_rules() -> None:
    seeds = fuzzing.joined(await fuzzing.simulated(), fuzzing.recorded())
    figures = fuzzing.fuzz(seeds, 10_000, seed=1)
    print(figures)
    assert figures.inputs == 10_000
    assert figures.inputs // 4 < figures.refused < figures.inputs
    assert figures.rows > 1_000
