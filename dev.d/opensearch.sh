# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of lib.sh
# A real OpenSearch on this machine: one node on the loopback interface, from Maven Central, on Java. Everything that belongs to
# one node lies in one directory: the program, its data, its log, `port` and `pid`. It is killed by pid only, and goes on with its
# data when it is started again.

opensearch_version=2.19.0

opensearch() {
  local verb=${1:-}
  [ $# -eq 0 ] || shift
  # As root it runs as somebody else (it refuses root), who cannot look into root's home.
  local dir given_dir port wipe settings default=$cache/opensearch/default
  ! opensearch_as_root || default=${TMPDIR:-/tmp}/watersmeet-opensearch
  server_arguments "$default" "$@"
  [ -z "$settings" ] || fail 2 "unknown argument '${settings%%$'\n'*}' (./dev alone explains them)"
  case $verb in
  start) opensearch_start ;;
  stop) opensearch_stop ;;
  status) opensearch_status ;;
  *) fail 2 "usage: ./dev opensearch start|stop|status (./dev alone explains them)" ;;
  esac
}

opensearch_as_root() { [ "$(id -u)" -eq 0 ]; }

# The pid of the node of this directory, where it runs and still is that node.
opensearch_pid() {
  local pid
  pid=$(cat "$dir/pid" 2>/dev/null) || return 1
  case $(command_of "$pid") in
  *"opensearch.path.home=$dir/"*) echo "$pid" ;;
  *) return 1 ;;
  esac
}

opensearch_start() {
  local home=$dir/opensearch-$opensearch_version i
  if opensearch_pid >/dev/null; then
    echo "url=http://127.0.0.1:$(cat "$dir/port")"
    return 0
  fi
  setup_java
  opensearch_unpack "$home"
  [ -n "$port" ] || port=$(cat "$dir/port" 2>/dev/null || free_port)
  ! reachable "127.0.0.1:$port" || fail 1 "port $port is taken. Take another with --port"
  echo "$port" >"$dir/port"
  cat >"$home/config/opensearch.yml" <<EOF
discovery.type: single-node
network.host: 127.0.0.1
http.port: $port
transport.port: $((port + 1))
path.data: $dir/data
path.logs: $dir/logs
# A developer's disk is often nearly full; a test must not end over that.
cluster.routing.allocation.disk.threshold_enabled: false
EOF
  local launch=(bash "$home/bin/opensearch" -d -p "$dir/pid")
  if opensearch_as_root; then
    chown -R nobody "$dir"
    setpriv --reuid=nobody --clear-groups test -w "$dir" ||
      fail 1 "OpenSearch does not run as root, and nobody cannot write to $dir. Take another directory with --dir"
    launch=(setpriv --reuid=nobody --clear-groups "${launch[@]}")
  fi
  (
    cd "$home"
    export OPENSEARCH_JAVA_HOME OPENSEARCH_JAVA_OPTS=${WATERSMEET_OPENSEARCH_JAVA_OPTS:--Xms512m -Xmx512m}
    OPENSEARCH_JAVA_HOME=$(java -XshowSettings:properties -version 2>&1 | sed -n 's/^ *java.home = //p')
    "${launch[@]}" >"$dir/start.log" 2>&1
  ) || { tail -n 20 "$dir/start.log" >&2 && fail 1 "OpenSearch did not start: $dir/start.log"; }
  for ((i = 0; i < 600; i++)); do
    if curl -fs "http://127.0.0.1:$port" >/dev/null 2>&1; then
      echo "url=http://127.0.0.1:$port"
      return 0
    fi
    if [ "$i" -gt 50 ] && ! opensearch_pid >/dev/null; then break; fi
    sleep 0.2
  done
  tail -n 20 "$dir/start.log" "$dir"/logs/*.log >&2 2>/dev/null || true
  fail 1 "OpenSearch did not answer on port $port within two minutes: $dir/logs"
}

# The program, without plugins and without a Java of its own (52 MB). Maven fetches it once, and unpacks it.
opensearch_unpack() { # HOME
  local home=$1
  [ ! -f "$home/complete" ] || return 0
  say "fetching OpenSearch $opensearch_version from Maven Central into $dir"
  rm -rf "$home"
  # In that directory: where Maven runs it notes what it has unpacked.
  (
    cd "$dir"
    mvn -B -q org.apache.maven.plugins:maven-dependency-plugin:3.6.1:unpack -DoutputDirectory="$dir" \
      -Dartifact="org.opensearch.distribution.integ-test-zip:opensearch:$opensearch_version:zip" >maven.log 2>&1 </dev/null
  ) || {
    tail -n 20 "$dir/maven.log" >&2
    fail 3 "Maven could not fetch OpenSearch: $dir/maven.log"
  }
  rm -rf "$dir/target" "$dir"/*project.basedir*
  chmod +x "$home"/bin/*
  touch "$home/complete"
}

opensearch_stop() {
  local pid i
  if pid=$(opensearch_pid); then
    kill "$pid" 2>/dev/null || true
    for ((i = 0; i < 150; i++)); do
      opensearch_pid >/dev/null || break
      sleep 0.2
    done
    if opensearch_pid >/dev/null; then
      say "OpenSearch (pid $pid) did not stop within 30 s: killing it"
      kill -9 "$pid" 2>/dev/null || true
    fi
  fi
  rm -f "$dir/pid"
  if [ -n "$wipe" ] && [ -f "$dir/port" ]; then rm -rf "$dir"; fi # only a directory of ours: it has the port's file
}

opensearch_status() {
  local pid
  pid=$(opensearch_pid) || fail 1 "no OpenSearch runs in $dir"
  echo "runs, pid $pid, at http://127.0.0.1:$(cat "$dir/port"), in $dir"
}
