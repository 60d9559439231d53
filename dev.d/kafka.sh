# shellcheck shell=bash
# shellcheck disable=SC2154,SC2015 # variables of lib.sh; `A && B || C` is meant where used
# A real Kafka on this machine: one KRaft node on the loopback interface, in a Docker engine where one runs, else from
# Kafka's jars on Java. Everything that belongs to one broker lies in one directory:
#   port                                     the port it listens on
#   container                                Docker's container id (Docker only)
#   pid, server.properties, data, broker.log (Java only)

kafka_version=4.3.0
kafka_heap=${WATERSMEET_KAFKA_HEAP:-1g}

kafka() {
  local verb=${1:-}
  [ $# -eq 0 ] || shift
  case $verb in
  start) kafka_start "$@" ;;
  stop) kafka_stop "$@" ;;
  status) kafka_status "$@" ;;
  tool) kafka_tool "$@" ;;
  *) fail 2 "usage: ./dev kafka start|stop|status|tool (./dev alone explains them)" ;;
  esac
}

reachable() { # HOST:PORT, the first of a list
  local first=${1%%,*}
  (exec 3<>"/dev/tcp/${first%:*}/${first##*:}") 2>/dev/null
}

free_port() {
  local port tries
  for ((tries = 0; tries < 100; tries++)); do
    # Below the range that systems hand out by themselves, the controller's port beside it.
    port=$((20000 + RANDOM % 10000))
    if ! reachable "127.0.0.1:$port" && ! reachable "127.0.0.1:$((port + 1))"; then
      echo "$port"
      return 0
    fi
  done
  fail 1 "found no free port"
}

docker_runs() { have docker && docker info >/dev/null 2>&1; }

command_of() { # PID: its command line, nothing where there is no such process; small systems have no ps
  if [ -d /proc/self ]; then
    [ ! -r "/proc/$1/cmdline" ] || tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null || true
  else
    ps -ww -p "$1" -o command= 2>/dev/null || true
  fi
}

# The pid of the broker of DIR, where it runs and still is that broker (pids are used again).
java_pid() { # DIR
  local pid
  pid=$(cat "$1/pid" 2>/dev/null) || return 1
  case $(command_of "$pid") in
  *"kafka.Kafka $1/server.properties"*) echo "$pid" ;;
  *) return 1 ;;
  esac
}

docker_id() { # DIR
  local id
  id=$(cat "$1/container" 2>/dev/null) || return 1
  [ "$(docker inspect -f '{{.State.Running}}' "$id" 2>/dev/null)" = true ] && echo "$id"
}

kafka_runs() { java_pid "$1" >/dev/null || docker_id "$1" >/dev/null; } # DIR

# -- start --

kafka_start() {
  local dir given_dir port wipe settings
  server_arguments "$cache/kafka/default" "$@"
  if [ -n "${WATERSMEET_KAFKA:-}" ] && [ -z "$given_dir" ]; then
    reachable "$WATERSMEET_KAFKA" || fail 1 "WATERSMEET_KAFKA is $WATERSMEET_KAFKA, but nothing answers there"
    echo "bootstrap.servers=$WATERSMEET_KAFKA"
    return 0
  fi
  if kafka_runs "$dir"; then
    echo "bootstrap.servers=127.0.0.1:$(cat "$dir/port")"
    return 0
  fi
  # The port stays with the data, so that clients find a restarted broker again.
  [ -n "$port" ] || port=$(cat "$dir/port" 2>/dev/null || free_port)
  ! reachable "127.0.0.1:$port" || fail 1 "port $port is taken. Take another with --port"
  echo "$port" >"$dir/port"
  if kafka_by_docker "$dir"; then docker_start "$dir" "$port" "$settings"; else java_start "$dir" "$port" "$settings"; fi
  echo "bootstrap.servers=127.0.0.1:$port"
}

kafka_by_docker() { # DIR: what holds its data decides, then WATERSMEET_KAFKA_VIA, then whether an engine runs
  [ ! -f "$1/container" ] || return 0
  [ ! -f "$1/server.properties" ] || return 1
  case ${WATERSMEET_KAFKA_VIA:-} in
  java) return 1 ;;
  docker) docker_runs || fail 3 "WATERSMEET_KAFKA_VIA is docker, but no Docker engine answers" ;;
  '') docker_runs || return 1 ;;
  *) fail 2 "WATERSMEET_KAFKA_VIA is ${WATERSMEET_KAFKA_VIA}: docker or java" ;;
  esac
}

# The broker's settings, one KEY=VALUE a line; the later of two wins.
broker_settings() { # PORT LISTEN_HOST SETTINGS
  cat <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$(($1 + 1))
listeners=PLAINTEXT://$2:$1,CONTROLLER://127.0.0.1:$(($1 + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$1
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
$3
EOF
}

docker_start() { # DIR PORT SETTINGS
  local dir=$1 port=$2 settings=$3 line key id i
  if [ -f "$dir/container" ] && docker inspect "$(cat "$dir/container")" >/dev/null 2>&1; then
    docker start "$(cat "$dir/container")" >/dev/null || fail 1 "the container of $dir did not start again"
  else
    set --
    while IFS= read -r line; do
      [ -n "$line" ] || continue
      # The image reads node.id from KAFKA_NODE_ID, and so on.
      key=$(echo "${line%%=*}" | tr 'a-z.' 'A-Z_')
      set -- "$@" -e "KAFKA_$key=${line#*=}"
    done <<<"$(broker_settings "$port" 0.0.0.0 "$settings")"
    say "starting apache/kafka:$kafka_version in Docker"
    id=$(docker run -d -p "127.0.0.1:$port:$port" -e "KAFKA_HEAP_OPTS=-Xmx$kafka_heap" "$@" "apache/kafka:$kafka_version") ||
      fail 1 "Docker could not run apache/kafka:$kafka_version. To use Java in its place: WATERSMEET_KAFKA_VIA=java"
    echo "$id" >"$dir/container"
  fi
  id=$(cat "$dir/container")
  for ((i = 0; i < 600; i++)); do
    # Of the last start only: a restarted container keeps its old log.
    docker logs --since "$(docker inspect -f '{{.State.StartedAt}}' "$id")" "$id" 2>&1 | grep -c 'Kafka Server started' >/dev/null && return 0
    docker_id "$dir" >/dev/null || {
      docker logs --tail 20 "$id" >&2 || true
      fail 1 "Kafka's container ended while it started"
    }
    sleep 0.2
  done
  fail 1 "Kafka did not start within 2 minutes: docker logs $id"
}

java_start() { # DIR PORT SETTINGS
  local dir=$1 port=$2 lib i
  setup_java
  lib=$(kafka_jars)
  { broker_settings "$port" 127.0.0.1 "$3" && echo "log.dirs=$dir/data"; } >"$dir/server.properties"
  if [ ! -f "$dir/data/meta.properties" ]; then
    kafka_java "$lib" kafka.tools.StorageTool format -t "${kafka_cluster_id:-$(head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | tr -d '=\n')}" \
      -c "$dir/server.properties" >"$dir/format.log" 2>&1 || { cat "$dir/format.log" >&2 && fail 1 "Kafka could not format $dir/data"; }
  fi
  [ ! -f "$dir/broker.log" ] || mv "$dir/broker.log" "$dir/broker.log.1"
  # In the background with its own output and no standard input, deaf to this terminal's ctrl-C: it is ended by pid only.
  (
    trap '' INT HUP
    exec nohup java -Xmx"$kafka_heap" -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.showDateTime=true \
      -Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS -Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info \
      -cp "$lib/*" kafka.Kafka "$dir/server.properties" </dev/null >"$dir/broker.log" 2>&1
  ) &
  echo $! >"$dir/pid"
  for ((i = 0; i < 600; i++)); do
    ! grep -q 'Kafka Server started' "$dir/broker.log" 2>/dev/null || return 0
    if [ "$i" -gt 20 ] && ! java_pid "$dir" >/dev/null; then break; fi
    sleep 0.1
  done
  tail -n 20 "$dir/broker.log" >&2
  fail 1 "Kafka did not start: $dir/broker.log"
}

# Prints the folder with Kafka's jars; Maven fetches them once.
kafka_jars() { maven_jars jars dev.d/kafka-jars.xml "Kafka"; }

# The same for Kafka Streams, for the test that takes an application over from it.
streams_jars() { maven_jars streams-jars dev.d/streams-jars.xml "Kafka Streams"; }

maven_jars() { # NAME POM WHAT
  local lib=$cache/kafka/$1-$kafka_version log=$cache/kafka/maven.log
  if [ ! -f "$lib/complete" ]; then
    lock "$1"
    if [ ! -f "$lib/complete" ]; then
      say "fetching $3 $kafka_version's jars from Maven Central into $lib (once)"
      rm -rf "$lib" && mkdir -p "$lib"
      cp "$2" "$lib/pom.xml" # a copy, so that Maven writes nothing beside the sources
      if ! mvn -B -q -f "$lib/pom.xml" -Dkafka.version="$kafka_version" -DincludeScope=runtime -DoutputDirectory="$lib" \
        org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        unlock "$1"
        fail 1 "Maven could not fetch $3's jars: $log"
      fi
      touch "$lib/complete"
    fi
    unlock "$1"
  fi
  echo "$lib"
}

kafka_java() { # LIB CLASS ARGUMENT...: one of Kafka's programs that start and end
  local lib=$1
  shift
  java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$lib/*" "$@"
}

# -- stop, status, tool --

kafka_stop() {
  local dir given_dir port wipe settings pid id i
  server_arguments "$cache/kafka/default" "$@"
  if [ -n "${WATERSMEET_KAFKA:-}" ] && [ -z "$given_dir" ] && ! kafka_runs "$dir"; then
    say "the Kafka at $WATERSMEET_KAFKA was not started here and is left alone"
    return 0
  fi
  if pid=$(java_pid "$dir"); then
    kill "$pid" 2>/dev/null || true
    for ((i = 0; i < 300; i++)); do
      java_pid "$dir" >/dev/null || break
      sleep 0.1
    done
    if java_pid "$dir" >/dev/null; then
      say "Kafka (pid $pid) did not stop within 30 s: killing it"
      kill -9 "$pid" 2>/dev/null || true
    fi
  fi
  if id=$(docker_id "$dir"); then docker stop -t 30 "$id" >/dev/null || true; fi
  rm -f "$dir/pid"
  if [ -n "$wipe" ]; then
    [ ! -f "$dir/container" ] || docker rm -f "$(cat "$dir/container")" >/dev/null 2>&1 || true
    [ ! -f "$dir/port" ] || rm -rf "$dir" # only a directory of ours: it has the port's file
  fi
}

kafka_status() {
  local dir given_dir port wipe settings pid id
  server_arguments "$cache/kafka/default" "$@"
  if [ -n "${WATERSMEET_KAFKA:-}" ] && [ -z "$given_dir" ]; then
    reachable "$WATERSMEET_KAFKA" || fail 1 "WATERSMEET_KAFKA is $WATERSMEET_KAFKA: nothing answers there"
    echo "answers at $WATERSMEET_KAFKA (WATERSMEET_KAFKA); not started here"
  elif pid=$(java_pid "$dir"); then
    echo "runs on Java, pid $pid, in $dir"
    echo "bootstrap.servers=127.0.0.1:$(cat "$dir/port")"
  elif id=$(docker_id "$dir"); then
    echo "runs in Docker, container $id, $dir"
    echo "bootstrap.servers=127.0.0.1:$(cat "$dir/port")"
  else
    echo "does not run ($dir)"
    return 1
  fi
}

kafka_tool() { # NAME ARGUMENT...
  local name=${1:-} class lib servers
  case $name in
  topics) class=org.apache.kafka.tools.TopicCommand ;;
  groups) class=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
  configs) class=kafka.admin.ConfigCommand ;;
  console-consumer) class=org.apache.kafka.tools.consumer.ConsoleConsumer ;;
  console-producer) class=org.apache.kafka.tools.ConsoleProducer ;;
  *) fail 2 "usage: ./dev kafka tool topics|groups|configs|console-consumer|console-producer [ARGUMENT...]" ;;
  esac
  shift
  setup_java
  lib=$(kafka_jars)
  case " $* " in
  *" --bootstrap-server"*) ;;
  *)
    servers=$(kafka_start) || return $?
    set -- --bootstrap-server "${servers#bootstrap.servers=}" "$@"
    ;;
  esac
  kafka_java "$lib" "$class" "$@"
}

setup_kafka() { [ -n "${WATERSMEET_KAFKA:-}" ] || docker_runs || { setup_java && kafka_jars >/dev/null; }; }
