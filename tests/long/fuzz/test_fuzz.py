"""Two hundred thousand broken frames and answers of every venue that there are seeds for."""

import os

from tests.exchange import fuzzing

COUNT = int(os.environ.get("OHLCVD_FUZZ_COUNT", "200000"))


async def test_nothing_that_a_venue_sends_breaks_the_reading_or_the_rules() -> None:
    seeds = fuzzing.joined(await fuzzing.simulated(), fuzzing.recorded())
    figures = fuzzing.fuzz(seeds, COUNT, seed=7)
    print(f"{figures}; seeds of {', '.join(sorted(seeds))}; most often: {figures.reasons.most_common(5)}")
    assert figures.inputs == COUNT
    assert figures.refused > COUNT // 4
    assert figures.rows > COUNT // 10
