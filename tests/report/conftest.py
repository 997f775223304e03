"""Pages without pictures, for tests of words and numbers: drawing takes most of the time that a page takes."""

from pathlib import Path

import pytest

PNG = b"\x89PNG\r\n"
SVG = '<svg xmlns="http://www.w3.org/2000/svg"></svg>'


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made, and written as empty ones. What they show has tests of its own in tests/plots."""
    from matplotlib.figure import Figure

    def savefig(self, path, **options):
        Path(path).write_bytes(PNG if Path(path).suffix == ".png" else SVG.encode())

    monkeypatch.setattr(Figure, "savefig", savefig)
