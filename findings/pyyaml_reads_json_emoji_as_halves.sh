#!/bin/sh
# PyYAML 6.0.4: JSON is said to be YAML, and a common way to quote front matter (of model and data set cards, of recipes) is json.dumps.
# For characters beyond U+FFFF, such as emoji and rare Han characters, it is not: JSON spells them as two escapes, a surrogate pair, and
# PyYAML makes a character of each half. The text looks right in a repr, has one character more, equals nothing, and cannot be
# encoded: whoever writes or sends it fails much later, far from the card. Write YAML by yaml.safe_dump, or ensure_ascii=False.
# Seen: json.dumps("cat <U+1F408>") is read as 6 characters instead of 5, and encoding them raises UnicodeEncodeError.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pyyaml==6.0.4
"$folder/venv/bin/python" - <<'PYTHON'
import json
import yaml

text = "cat \U0001f408"
by_json, by_yaml = (yaml.safe_load(f"name: {written}")["name"] for written in (json.dumps(text), yaml.safe_dump(text, default_style='"')))
try:
    by_json.encode()
    can = "can"
except UnicodeEncodeError:
    can = "cannot"
print(f"PyYAML {yaml.__version__}: {len(text)} characters, written by json.dumps and read: {len(by_json)}, which {can} be encoded;"
      f" written by safe_dump: {len(by_yaml)}")
assert json.loads(json.dumps(text)) == text == by_yaml and by_json != text and can == "cannot"
PYTHON
