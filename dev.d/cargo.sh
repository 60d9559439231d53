# shellcheck shell=bash
# shellcheck disable=SC2154,SC2015 # variables of lib.sh; `A && B || C` is meant where used
# The verbs that call cargo. Always --release: one profile, so that RocksDB and librdkafka compile once.

deny_version=0.20.2

first_time() {
  ls -d "$CARGO_TARGET_DIR"/release/build/librocksdb-sys-* >/dev/null 2>&1 ||
    say "first build into $CARGO_TARGET_DIR: RocksDB and librdkafka take about 9 minutes on two cores, once"
}

cargo_build() { # ARGUMENT...
  first_time
  cargo build --release --locked "$@" || fail 1 "the build failed"
}

demo() {
  cargo_build --bin watersmeet
  exec "$CARGO_TARGET_DIR/release/watersmeet" demo "$@"
}

example() { # [NAME [ARGUMENT...]]
  local name=${1:-} path
  if [ -z "$name" ]; then
    for path in examples/*/main.rs examples/*.rs; do
      path=${path%/main.rs}
      basename "$path" .rs
    done
    return
  fi
  [ -e "examples/$name.rs" ] || [ -e "examples/$name/main.rs" ] || fail 2 "there is no example '$name': ./dev example lists them"
  cargo_build --example "$name"
  exec "$CARGO_TARGET_DIR/release/examples/$name" "${@:2}"
}

build() {
  cargo_build --bin watersmeet
  echo "$CARGO_TARGET_DIR/release/watersmeet"
}

test_program() { # NAME: compiles a test program, prints its path
  cargo test --release --locked --no-run --test "$1" --message-format=short 2>&1 | tee /dev/stderr |
    sed -n 's/.*Executable.*(\(.*\))$/\1/p' | tail -n 1
}

oracle() {
  first_time
  local program
  program=$(test_program oracle)
  [ -n "$program" ] || fail 1 "the program of the cases does not compile"
  exec "$program" "$@"
}

sim() {
  first_time
  local program
  program=$(test_program sim)
  [ -n "$program" ] || fail 1 "the program of the simulation does not compile"
  exec "$program" "$@"
}

bench() { # [NAME...] [-- ARGUMENT...]
  local args=()
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    args+=(--bench "$1")
    shift
  done
  [ ${#args[@]} -gt 0 ] || args=(--benches)
  first_time
  cargo bench --locked "${args[@]}" "$@"
}

# -- test --

test_kafka_dir=
test_log=

end_tests() {
  local code=$?
  trap - EXIT INT TERM
  if [ -n "$test_kafka_dir" ]; then kafka stop --dir "$test_kafka_dir" --wipe || true; fi
  [ -z "$test_log" ] || rm -f "$test_log"
  exit "$code"
}

run_tests() { # arguments go to cargo test
  local status=0 servers
  trap end_tests EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  first_time
  cargo build --release --locked --tests --examples || fail 1 "the tests do not compile"

  if [ -n "${WATERSMEET_KAFKA:-}" ]; then
    reachable "$WATERSMEET_KAFKA" || fail 1 "WATERSMEET_KAFKA is $WATERSMEET_KAFKA, but nothing answers there"
    say "the tests use the Kafka at $WATERSMEET_KAFKA"
  else
    test_kafka_dir=$cache/kafka/test-$$
    # The records of tests are of 1970: the broker would delete them as too old, some time into the run.
    servers=$(kafka start --dir "$test_kafka_dir" log.retention.ms=-1) || fail $? "no real Kafka, so no tests: see above"
    export WATERSMEET_KAFKA=${servers#bootstrap.servers=}
  fi

  # Kafka Streams itself, where there is a JDK to run it from its source; the test says so where there is none.
  if [ -z "${KAFKA_STREAMS_JARS:-}" ] && have javac && have mvn; then
    KAFKA_STREAMS_JARS=$(streams_jars) || say "without Kafka Streams' jars the take-over from it is not tested"
    export KAFKA_STREAMS_JARS
  fi

  test_log=$(mktemp)
  cargo test --release --locked --no-fail-fast "$@" 2>&1 </dev/null | tee "$test_log" || status=$?
  summary "$test_log" "$status"
  return "$status"
}

summary() { # LOG STATUS
  local passed failed
  passed=$(awk '/^test result:/ { for (i = 1; i < NF; i++) if ($(i+1) ~ /^passed/) n += $i } END { print n + 0 }' "$1")
  failed=$(awk '/^test result:/ { for (i = 1; i < NF; i++) if ($(i+1) ~ /^failed/) n += $i } END { print n + 0 }' "$1")
  echo
  sed -n 's/^test \(.*\) \.\.\. FAILED$/FAILED: \1/p' "$1" | sort -u
  # A test program that is killed or does not compile prints no result line: say so rather than count nothing.
  if [ "$2" -ne 0 ] && [ "$failed" -eq 0 ]; then
    grep -E '^error' "$1" | head -n 5 || true
    echo "cargo test ended with code $2 though no test is reported as failed: a test program did not build or crashed"
  fi
  echo "$passed passed, $failed failed"
}

# -- check --

check() {
  need_component rustfmt
  need_component clippy
  first_time
  local failed=
  step() { # NAME COMMAND...
    local name=$1
    shift
    echo "-- $name: $*"
    "$@" </dev/null || failed="$failed $name"
  }
  step format cargo fmt --all --check
  step clippy cargo clippy --release --locked --all-targets -- -D warnings
  step deny deny
  step layering cargo test --release --locked --quiet --test layering
  step docs env RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --no-deps
  [ -z "$failed" ] || fail 1 "failed:$failed"
  echo "check: everything in order"
}

deny() {
  local tool
  tool=$(deny_tool)
  "$tool" --locked check bans licenses sources || return 1
  # The advisories need RustSec's database, which is fetched from GitHub: where that cannot be reached, say it and go on.
  local log
  log=$(mktemp)
  if "$tool" --locked check advisories >"$log" 2>&1; then
    echo "advisories ok"
  elif grep -qiE "failed to (fetch|clone|open|acquire|get|update|load)|could not (connect|resolve)|network|unable to (fetch|load|open)" "$log" &&
    ! grep -qE "^(error|warning)\[(vulnerability|unmaintained|unsound|yanked|notice)\]" "$log"; then
    echo "advisories NOT CHECKED: the advisory database could not be fetched on this machine"
  else
    cat "$log"
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

deny_tool() { # prints the program
  if have cargo-deny; then
    echo cargo-deny
    return 0
  fi
  local home=$cache/tools
  if ! [ -x "$home/bin/cargo-deny" ]; then
    say "installing cargo-deny $deny_version into $home (./dev check needs it; a minute or two, once)"
    # Unoptimized on purpose: it compiles in a third of the time and runs for a second.
    CARGO_TARGET_DIR=$cache/tools/build cargo install cargo-deny --version "$deny_version" --locked --debug --quiet --root "$home" >&2 ||
      fail 3 "could not install cargo-deny. By hand: cargo install cargo-deny --locked"
    rm -rf "$cache/tools/build"
  fi
  echo "$home/bin/cargo-deny"
}
