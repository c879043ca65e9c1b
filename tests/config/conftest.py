"""A folder that is an installation of its own."""

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An installation of its own, with no configuration."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "cwd").mkdir()
    return tmp_path
