"""The package as a file: its size, its bytes, what lintian says of it."""

import subprocess
from pathlib import Path

from tests.long.package.conftest import ROOT


def test_it_is_small_and_alone_in_its_folder(first: Path) -> None:
    assert first.name.startswith("ohlcvd_")
    assert first.parent.name == "build"
    assert [path.name for path in first.parent.iterdir()] == [first.name]
    assert first.stat().st_size < 20e6


def test_a_second_build_has_the_same_bytes(second: Path, first: Path) -> None:
    assert second.read_bytes() == first.read_bytes()


def test_lintian_prints_only_what_is_overridden_and_every_override_is_needed(first: Path) -> None:
    """An override that nothing needs any more would hide the next mistake."""
    done = subprocess.run(
        ["lintian", "-EviIL", "+pedantic", "--show-overrides", "--allow-root", first],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = [line for line in done.stdout.splitlines() if not line.startswith("N:")]
    assert [line for line in said if not line.startswith("O:")] == []
    lines = (ROOT / "debian/ohlcvd.lintian-overrides").read_text().splitlines()
    assert {line.split()[2] for line in said} == {line.split()[1] for line in lines if line.startswith("ohlcvd:")}
