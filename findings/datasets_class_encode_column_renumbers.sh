#!/bin/sh
# datasets 5.2.0: class_encode_column of a column of whole numbers, the usual way to stratify by labels that are numbers, does not keep them. It
# sorts them as text (10 before 2) and numbers them anew, so that with more than ten classes label 2 is 4 from then on; and where a split
# lacks a class, all classes after it move down by one, differently from split to split. Predictions are then compared with other
# classes' names. int2str gives the old numbers back, as text. Nothing is said.
# Cast instead: cast_column("label", ClassLabel(num_classes=12)) keeps numbers as they are.
# Seen: 12 labels 0 to 11: 10 of 12 are renumbered; labels 3, 5 and 9: 0, 1 and 2; cast: none.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet datasets==5.2.0
HF_HUB_OFFLINE=1 HF_HOME="$folder/hf" "$folder/venv/bin/python" - <<'PYTHON'
import datasets

datasets.disable_progress_bars()
whole = datasets.Dataset.from_dict({"label": list(range(12))})
part = datasets.Dataset.from_dict({"label": [3, 5, 9]})
encoded, encoded_part = (list(rows.class_encode_column("label")["label"]) for rows in (whole, part))
cast = list(whole.cast_column("label", datasets.ClassLabel(num_classes=12))["label"])
moved = sum(before != after for before, after in zip(range(12), encoded))
print(f"datasets {datasets.__version__}: 0 to 11 become {encoded} ({moved} of 12 moved), 3, 5 and 9 become {encoded_part}; cast: {cast}")
assert encoded == [0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 2, 3] and encoded_part == [0, 1, 2]
assert cast == list(range(12))
PYTHON
