# shellcheck shell=bash
# What every verb uses. Sourced by ./dev. Runs in bash 3.2 too (macOS): no associative arrays, no ${x,,}.

cache=${XDG_CACHE_HOME:-$HOME/.cache}/watersmeet
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
# cargo and rustup install here; a shell that was opened before does not know it yet.
case :$PATH: in *:"${CARGO_HOME:-$HOME/.cargo}/bin":*) ;; *) PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin ;; esac

say() { echo "dev: $*" >&2; }

fail() { # CODE TEXT...
  local code=$1
  shift
  echo "dev: $*" >&2
  exit "$code"
}

have() { command -v "$1" >/dev/null 2>&1; }

# One at a time: mkdir is atomic everywhere, flock is not on macOS. The holder's pid frees a lock whose holder died.
lock() { # NAME
  local dir=$cache/lock-$1 holder tries=0
  mkdir -p "$cache"
  until mkdir "$dir" 2>/dev/null; do
    holder=$(cat "$dir/pid" 2>/dev/null || true)
    if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null; then
      rm -rf "$dir"
      continue
    fi
    tries=$((tries + 1))
    [ "$tries" -ne 5 ] || say "waiting for another ./dev (pid ${holder:-unknown}) that holds $dir"
    [ "$tries" -lt 3000 ] || fail 1 "gave up waiting for $dir: remove it if no other ./dev runs"
    sleep 0.2
  done
  echo $$ >"$dir/pid"
}

unlock() { rm -rf "$cache/lock-$1"; }

# Sets dir, given_dir, port, wipe and settings (KEY=VALUE, one a line) from the arguments of a server's verb.
server_arguments() { # DEFAULT_DIR ARGUMENT...
  dir=$1 given_dir='' port='' wipe='' settings=''
  shift
  while [ $# -gt 0 ]; do
    case $1 in
    --dir | --port)
      [ $# -ge 2 ] || fail 2 "$1 needs a value"
      if [ "$1" = --dir ]; then dir=$2 given_dir=yes; else port=$2; fi
      shift
      ;;
    --wipe) wipe=yes ;;
    *=*) settings="$settings$1"$'\n' ;;
    *) fail 2 "unknown argument '$1' (./dev alone explains them)" ;;
    esac
    shift
  done
  mkdir -p "$dir" || fail 1 "cannot write to $dir"
  dir=$(cd "$dir" && pwd)
}
