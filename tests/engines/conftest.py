"""Nothing that fails in these tests passes with time."""

from __future__ import annotations

import pytest

from figment.engines import todo


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch) -> None:
    monkeypatch.setattr(todo, "REST", 0.01)
