#!/bin/sh
# Ray 2.60.0: ray.init() that starts a cluster of its own makes a token, ~/.ray/auth_token, the first time. From then on `ray start --head`
# on that machine asks for it (with a warning: "Token authentication is enabled"), where before it asked for nothing; but ray.init(address)
# in another process of the same user, who can read the token, still sends none unless RAY_AUTH_MODE=token is set. It tries for 20 s and
# raises ConnectionError "Failed to connect to Ray cluster", by ray:// for 30 s "ray client connection timeout": the token is named in
# neither. So a script that joined the cluster for months stops doing so once anybody has tried Ray locally on the head. A driver with
# RAY_AUTH_MODE=token joins clusters of both kinds.
set -eu
folder=$(mktemp -d)
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "ray[client]==2.60.0"
export HOME="$folder" RAY_USAGE_STATS_ENABLED=0
unset RAY_ADDRESS RAY_AUTH_MODE RAY_AUTH_TOKEN RAY_AUTH_TOKEN_PATH
port=$(python3 -c "import socket; s = socket.create_server(('', 0)); print(s.getsockname()[1])")
client=$(python3 -c "import socket; s = socket.create_server(('', 0)); print(s.getsockname()[1])")
head=
trap '[ -z "$head" ] || kill -9 "-$head" 2>/dev/null; sleep 1; rm -rf "$folder"' EXIT

start() { # a head, in a process group of its own; what it says goes to a file
    setsid "$folder/venv/bin/ray" start --head --block --port="$port" --num-cpus=1 --include-dashboard=false --min-worker-port=0 \
        --max-worker-port=0 --dashboard-agent-listen-port=0 --ray-client-server-port="$client" --object-store-memory=80000000 \
        --temp-dir="$folder/$1" > "$folder/$1.said" 2>&1 &
    head=$!
    until grep -q "Ray runtime started" "$folder/$1.said"; do kill -0 "$head"; sleep 1; done
}

end() {
    kill -9 "-$head"
    head=
    sleep 2
}

join() { # prints whether a driver joins
    RAY_AUTH_MODE="$1" "$folder/venv/bin/python" - "$port" <<'XXX' 2> /dev/null | tail -1
import os, sys
if not os.environ["RAY_AUTH_MODE"]:
    del os.environ["RAY_AUTH_MODE"]
import ray
try:
    ray.init(f"{ray.util.get_node_ip_address()}:{sys.argv[1]}", log_to_driver=False, logging_level="ERROR")
    print("joins")
except ConnectionError as error:
    print("refused, and the token is " + ("named" if "token" in str(error).lower() else "not named"))
XXX
}

start before
first=$(join "")
end
"$folder/venv/bin/python" -c "import ray; ray.init('local', num_cpus=1, include_dashboard=False)" > /dev/null 2>&1
test -f "$folder/.ray/auth_token"
start after
second=$(join "")
third=$(join token)
end
echo "ray 2.60.0: before anybody used it locally a driver $first; afterwards it is: $second; with RAY_AUTH_MODE=token it $third"
test "$first" = joins
test "$second" = "refused, and the token is not named"
test "$third" = joins
