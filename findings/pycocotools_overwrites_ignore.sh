#!/bin/sh
# pycocotools 2.0.11: COCOeval reads an annotation's field "ignore" and on the next line overwrites it by "iscrowd". So a box that a data set
# marks as not to count, as converters write PASCAL VOC's "difficult" objects ({"ignore": 1, "iscrowd": 0}), counts as missed, without a word.
# Setting iscrowd = 1 in its place is not the same: a crowd is matched by any number of detections, by another overlap (intersection over
# the detection's own area), so a large loose detection around it is forgiven or not for other reasons than VOC's.
# Seen: two boxes, one with ignore = 1, the other detected perfectly: AP50 .505 and recall .5, where VOC's rule (and the field's name) says 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pycocotools==2.0.11 numpy==2.4.6
"$folder/venv/bin/python" - <<'EOP'
import contextlib, io
from importlib.metadata import version
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

def judged(**difficult):
    own = {"image_id": 1, "category_id": 1, "area": 400.0, "iscrowd": 0}
    truth, quiet = COCO(), io.StringIO()
    truth.dataset = {
        "info": {},
        "images": [{"id": 1, "width": 100, "height": 100}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{**own, "id": 1, "bbox": [0, 0, 20, 20]}, {**own, "id": 2, "bbox": [60, 60, 20, 20], **difficult}],
    }
    with contextlib.redirect_stdout(quiet):
        truth.createIndex()
        found = truth.loadRes([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 20, 20], "score": 0.9}])
        e = COCOeval(truth, found, "bbox")
        e.evaluate(), e.accumulate(), e.summarize()
    return e.stats[1], e.stats[8]  # AP at an overlap of .5, recall with 100 detections an image

counted, ignored, crowd = judged(), judged(ignore=1), judged(iscrowd=1)
print(f"pycocotools {version('pycocotools')}: AP50 and recall with a second box that nobody found: counted {counted[0]:.3f}, {counted[1]:.2f};"
      f" with ignore = 1 {ignored[0]:.3f}, {ignored[1]:.2f}; with iscrowd = 1 {crowd[0]:.3f}, {crowd[1]:.2f}")
assert ignored == counted and abs(ignored[0] - 0.505) < 1e-3 and crowd[0] > 0.999
EOP
