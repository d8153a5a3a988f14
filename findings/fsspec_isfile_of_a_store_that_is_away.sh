#!/bin/sh
# fsspec 2026.9.0, s3fs 2026.9.0: isfile() answers False for a file that could not be asked for: no network, a server that is away, one
# that refuses the keys. "Is the result there already?" is then "no", and a program that makes what is missing makes it again, or says that a
# folder of finished work holds nothing. info() tells them apart: it raises FileNotFoundError only for what is not there. (isdir and
# exists raise for a lost connection.) universal_pathlib's UPath.is_file() asks isfile().
# Seen: with nobody listening at the endpoint isfile and UPath.is_file are False, info raises.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet fsspec==2026.9.0 s3fs==2026.9.0 universal_pathlib==0.3.10
AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_MAX_ATTEMPTS=1 "$folder/venv/bin/python" - <<'PYTHON'
import socket
import fsspec, s3fs
from upath import UPath

s3fs.S3FileSystem.retries = 1  # do not wait for long
with socket.socket() as free:  # a port at which nobody listens
    free.bind(("127.0.0.1", 0))
    endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
options = {"endpoint_url": endpoint, "client_kwargs": {"region_name": "us-east-1"}}
store = s3fs.S3FileSystem(**options)


def outcome(ask):
    try:
        return ask("s3://bucket/run/result.json")
    except Exception as error:
        return type(error).__name__


said = {"isfile": outcome(store.isfile), "info": outcome(store.info), "UPath.is_file": outcome(lambda p: UPath(p, **options).is_file())}
print(f"fsspec {fsspec.__version__}, s3fs {s3fs.__version__}, nobody at the endpoint: {said}")
assert said["isfile"] is said["UPath.is_file"] is False and said["info"] not in (True, False, "FileNotFoundError")
PYTHON
