# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of lib.sh
# `./dev chaos`: three brokers on the loopback interface, instances that are killed and stopped (benches/chaos.rs), brokers
# that are killed and restarted under them, and the committed output compared record by record.

chaos_dir=

chaos() { # [--minutes M] [ARGUMENT...]
  if [ "${1:-}" = restart-a-broker ]; then
    chaos_restart "$2"
    return
  fi
  local program servers=() ports=() n
  first_time
  program=$(cargo bench --locked --no-run --bench chaos --message-format=short 2>&1 | tee /dev/stderr |
    sed -n 's/.*Executable.*(\(.*\))$/\1/p' | tail -n 1)
  [ -n "$program" ] || fail 1 "benches/chaos.rs does not compile"
  if [ -n "${WATERSMEET_KAFKA:-}" ]; then
    say "chaos on the Kafka at $WATERSMEET_KAFKA, whose brokers are left alone"
    exec "$program" --bootstrap "$WATERSMEET_KAFKA" "$@"
  fi
  setup_java
  kafka_jars >/dev/null
  chaos_dir=$cache/kafka/chaos-$$
  mkdir -p "$chaos_dir"
  trap chaos_end EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  for n in 1 2 3; do
    while :; do
      ports[n]=$(free_port)
      case " ${ports[*]:1:n-1} " in *" ${ports[n]} "*) ;; *) break ;; esac
    done
    servers[n]=127.0.0.1:${ports[n]}
  done
  echo "${ports[*]}" >"$chaos_dir/ports"
  head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | tr -d '=\n' >"$chaos_dir/cluster.id"
  say "starting three brokers"
  local starting=()
  # Together: none of them is up before there is a quorum.
  for n in 1 2 3; do
    chaos_broker "$chaos_dir" "$n" &
    starting[n]=$!
  done
  for n in 1 2 3; do wait "${starting[n]}" || fail 1 "broker $n did not start"; done
  "$program" --bootstrap "$(IFS=, && echo "${servers[*]}")" --replication 3 \
    --broker-restart "$root/dev chaos restart-a-broker '$chaos_dir'" "$@"
}

chaos_broker() { # DIR N
  local ports voters
  read -r -a ports <"$1/ports"
  voters="1@127.0.0.1:$((ports[0] + 1)),2@127.0.0.1:$((ports[1] + 1)),3@127.0.0.1:$((ports[2] + 1))"
  kafka_cluster_id=$(cat "$1/cluster.id") kafka_heap=${WATERSMEET_KAFKA_HEAP:-600m} WATERSMEET_KAFKA_VIA=java \
    kafka_start --dir "$1/node-$2" --port "${ports[$2 - 1]}" "node.id=$2" "controller.quorum.voters=$voters" \
    default.replication.factor=3 min.insync.replicas=2 offsets.topic.replication.factor=3 \
    transaction.state.log.replication.factor=3 transaction.state.log.min.isr=2 >/dev/null
}

# Ends one of the brokers, any of them, by SIGKILL or in order, and starts it again.
chaos_restart() { # DIR
  local n=$((RANDOM % 3 + 1)) pid
  if ((RANDOM % 2)) && pid=$(java_pid "$1/node-$n"); then
    kill -9 "$pid"
    rm -f "$1/node-$n/pid"
  else
    kafka_stop --dir "$1/node-$n"
  fi
  sleep $((RANDOM % 5))
  chaos_broker "$1" "$n"
}

chaos_end() {
  local code=$? n
  trap - EXIT INT TERM
  for n in 1 2 3; do
    [ ! -d "$chaos_dir/node-$n" ] || kafka_stop --dir "$chaos_dir/node-$n" --wipe || true
  done
  rm -rf "$chaos_dir"
  exit "$code"
}
