from __future__ import annotations

from figment.words import natural


def test_numbers_in_names_count_as_numbers():
    names = ["10-clip", "2-blank", "1-a", "1-B", "x", "", "2-blank-10", "2-blank-9", "²"]
    assert sorted(names, key=natural) == ["", "1-B", "1-a", "2-blank", "2-blank-9", "2-blank-10", "10-clip", "x", "²"]
