#!/bin/sh
# litdata 0.2.76 with obstore 0.12.1, which it requires: a data set in an S3 store whose address is http:// (MinIO, Ceph or SeaweedFS in one's own
# network, an S3 in tests) opens, tells its length, and cannot give one item. Its index is read by boto3, which takes the endpoint as it is given; its
# chunks are read by obstore, which refuses http unless it is told allow_http, and litdata does not tell it: not by storage_options, and not by
# AWS_ALLOW_HTTP, which obstore reads by itself. What is said is "HTTP error: builder error", "Chunk downloads have stopped". Over https:// all is well.
# Until that is mended: litdata.streaming.downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True before the first read.
# Seen: of 8 items len() is 8; the first item raises RuntimeError with BadScheme, with AWS_ALLOW_HTTP=true too; with the line above all 8 are there.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet litdata==0.2.76 obstore==0.12.1 torch==2.14.1 'moto[server]==5.2.5' boto3==1.43.117
cat > "$folder/read.py" <<'PYTHON'
import logging, sys, tempfile

import boto3, litdata
from litdata.streaming import downloader
from litdata.streaming.cache import Cache
from moto.server import ThreadedMotoServer

logging.disable()
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
store = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
store.create_bucket(Bucket="bucket")
with tempfile.TemporaryDirectory() as here:
    cache = Cache(here, chunk_size=4)
    for i in range(8):
        cache[i] = {"number": i}
    cache.done()
    cache.merge()
    for name in ("index.json", "chunk-0-0.bin", "chunk-0-1.bin"):
        store.upload_file(f"{here}/{name}", "bucket", f"set/{name}")

if sys.argv[1] == "told":
    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True
with tempfile.TemporaryDirectory() as copied:
    options = {"endpoint_url": f"http://{host}:{port}"}
    data = litdata.StreamingDataset("s3://bucket/set", cache_dir=copied, storage_options=options)
    try:
        found = str([item["number"] for item in data])
    except RuntimeError as error:
        found = "BadScheme" if "BadScheme" in str(error) else f"another error: {error}"
    print(f"litdata {litdata.__version__}, {sys.argv[1]}: {len(data)} items: {found}", flush=True)
server.stop()
PYTHON
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1
cd "$folder"
for way in plain variable told; do
  [ $way != variable ] || export AWS_ALLOW_HTTP=true
  "$folder/venv/bin/python" -W ignore "$folder/read.py" $way 2> "$folder/errors" | tee -a "$folder/said"
done
grep -q 'plain: 8 items: BadScheme' "$folder/said"
grep -q 'variable: 8 items: BadScheme' "$folder/said"
grep -q 'told: 8 items: \[0, 1, 2, 3, 4, 5, 6, 7\]' "$folder/said"
