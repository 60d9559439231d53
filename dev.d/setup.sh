# shellcheck shell=bash
# shellcheck disable=SC2154,SC2015 # variables of lib.sh; `A && B || C` is meant where used
# Installs what is missing: says what and why, does it where it may, else names it and stops with exit code 3.

rust_wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
java_wanted=17

# -- what is there --

version_at_least() { # HAVE WANTED: compares major.minor
  local have_major=${1%%.*} have_minor want_major=${2%%.*} want_minor
  have_minor=$(echo "$1." | cut -d. -f2)
  want_minor=$(echo "$2." | cut -d. -f2)
  [ "$have_major" -gt "$want_major" ] || { [ "$have_major" -eq "$want_major" ] && [ "${have_minor:-0}" -ge "${want_minor:-0}" ]; }
}

rust_is_new_enough() {
  local v
  v=$(cargo --version 2>/dev/null | awk '{print $2}') || return 1
  [ -n "$v" ] && version_at_least "$v" "$rust_wanted"
}

java_is_new_enough() {
  local v
  v=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1) || return 1
  [ -n "$v" ] && [ "$v" -ge "$java_wanted" ]
}

has_libclang() {
  [ -z "${LIBCLANG_PATH:-}" ] || return 0
  local file
  for file in /usr/lib/llvm-*/lib/libclang*.so* /usr/lib*/libclang*.so* /usr/lib/*-linux-gnu/libclang*.so* \
    /Library/Developer/CommandLineTools/usr/lib/libclang.dylib; do
    [ ! -e "$file" ] || return 0
  done
  return 1
}

has_headers() { have pkg-config && pkg-config --exists "$1" 2>/dev/null; }

# -- how to get it --

may_be_root() { [ "$(id -u)" -eq 0 ] || { have sudo && sudo -n true 2>/dev/null; }; }
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi; }

apt_updated=
apt_update() { # package lists: once in a run
  [ -z "$apt_updated" ] || return 0
  apt_updated=yes
  as_root apt-get update -qq >&2 || say "apt-get update failed: trying with the package lists that are here"
}

apt_has() { # PACKAGE: it can be installed
  case $(apt-cache policy "$1" 2>/dev/null) in
  '' | *'Candidate: (none)'*) return 1 ;;
  esac
}

# install WHY PACKAGE...: system packages by the machine's package manager, named as on Debian
install() {
  local why=$1
  shift
  if have apt-get; then
    local command="apt-get install -y --no-install-recommends $*"
    if [ "${WATERSMEET_NO_INSTALL:-}" = 1 ] || ! may_be_root; then
      fail 3 "missing: $* ($why). Install with: sudo $command"
    fi
    say "installing $* ($why)"
    apt_update
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive $command >&2 </dev/null || fail 3 "could not install $*. By hand: sudo $command"
  elif have brew; then
    local p formulas=
    for p in "$@"; do
      case $p in
      build-essential | libclang-dev) have c++ || fail 3 "missing: Apple's command line tools ($why). Install with: xcode-select --install" ;;
      libssl-dev) formulas="$formulas openssl@3" ;;
      zlib1g-dev) ;; # comes with the system
      pkg-config) formulas="$formulas pkgconf" ;;
      openjdk-*) formulas="$formulas openjdk" ;;
      *) formulas="$formulas $p" ;;
      esac
    done
    [ -n "$formulas" ] || return 0
    [ "${WATERSMEET_NO_INSTALL:-}" != 1 ] || fail 3 "missing:$formulas ($why). Install with: brew install$formulas"
    say "installing$formulas ($why)"
    # shellcheck disable=SC2086
    brew install $formulas >&2 </dev/null || fail 3 "could not install$formulas. By hand: brew install$formulas"
  else
    fail 3 "missing: $* as Debian names them ($why). This script installs with apt-get or brew only: install your system's packages of that kind, then try again"
  fi
}

# -- what the build needs --

setup_rust() {
  local packages=
  have c++ && have cc && have make || packages="$packages build-essential"
  has_libclang || packages="$packages libclang-dev"
  have pkg-config || packages="$packages pkg-config"
  has_headers openssl || packages="$packages libssl-dev"
  has_headers zlib || packages="$packages zlib1g-dev"
  # On macOS OpenSSL and zlib are found without pkg-config files.
  if [ "$(uname -s)" = Darwin ] && [ -d "$(brew --prefix openssl@3 2>/dev/null || echo /none)" ]; then
    OPENSSL_DIR=${OPENSSL_DIR:-$(brew --prefix openssl@3)}
    export OPENSSL_DIR
    packages=${packages/ libssl-dev/}
    packages=${packages/ zlib1g-dev/}
  fi
  # shellcheck disable=SC2086
  [ -z "$packages" ] || install "RocksDB and librdkafka are C and C++: they are compiled here" $packages

  rust_is_new_enough || setup_toolchain
  rust_is_new_enough || fail 3 "$(cargo --version 2>/dev/null || echo 'no cargo') is here, but Rust $rust_wanted or newer is needed. Install with: rustup update stable && rustup default stable"
}

setup_toolchain() {
  local why="Rust $rust_wanted or newer compiles watersmeet"
  if ! have rustup; then
    if have brew && ! have apt-get; then
      install "$why" rustup
      PATH=$PATH:$(brew --prefix rustup 2>/dev/null)/bin
    elif have apt-get; then
      ! may_be_root || [ "${WATERSMEET_NO_INSTALL:-}" = 1 ] || apt_update
      if apt_has rustup; then
        install "$why" rustup
      else
        setup_rustup_from_its_site "$why"
      fi
    else
      fail 3 "missing: rustup ($why). Install it as https://rustup.rs says, then try again"
    fi
  fi
  [ "${WATERSMEET_NO_INSTALL:-}" != 1 ] || fail 3 "missing: $why. Install with: rustup default stable"
  say "installing the Rust toolchain with rustup ($why)"
  rustup toolchain install stable --profile minimal --component clippy --component rustfmt >&2 </dev/null &&
    rustup default stable >&2 || fail 3 "rustup could not install the toolchain. By hand: rustup default stable"
}

# Debian 12 and Ubuntu 22.04 have no package of it.
setup_rustup_from_its_site() { # WHY
  local by_hand="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" script
  [ "${WATERSMEET_NO_INSTALL:-}" != 1 ] || fail 3 "missing: rustup ($1). Install with: $by_hand"
  have curl || install "to fetch rustup" curl ca-certificates
  say "installing rustup from its own site, into your home directory: this system has no package of it ($1)"
  script=$(mktemp)
  if ! curl --proto '=https' --tlsv1.2 -sSf --max-time 120 https://sh.rustup.rs -o "$script" ||
    ! sh "$script" -y --profile minimal --no-modify-path >&2 </dev/null; then
    rm -f "$script"
    fail 3 "rustup could not be fetched. By hand: $by_hand"
  fi
  rm -f "$script"
}

need_component() { # NAME: clippy or rustfmt
  cargo "${1/rustfmt/fmt}" --version >/dev/null 2>&1 && return 0
  have rustup && [ "${WATERSMEET_NO_INSTALL:-}" != 1 ] || fail 3 "missing: $1. Install with: rustup component add $1"
  say "installing $1 (./dev check needs it)"
  rustup component add "$1" >&2 </dev/null || fail 3 "could not install $1. By hand: rustup component add $1"
}

# -- what the real Kafka needs, where no Docker engine runs --

setup_java() {
  local jre p why="the real Kafka runs on Java $java_wanted or newer"
  if [ "$(uname -s)" = Darwin ] && ! java_is_new_enough && have brew && [ -d "$(brew --prefix openjdk 2>/dev/null || echo /none)/bin" ]; then
    PATH=$(brew --prefix openjdk)/bin:$PATH # Homebrew does not put it on the path
  fi
  if ! java_is_new_enough; then
    jre=openjdk-17-jre-headless
    if have apt-get; then
      ! may_be_root || [ "${WATERSMEET_NO_INSTALL:-}" = 1 ] || apt_update
      for p in openjdk-17-jre-headless openjdk-21-jre-headless openjdk-25-jre-headless; do
        if apt_has "$p"; then
          jre=$p
          break
        fi
      done
    fi
    install "$why" "$jre"
    [ "$(uname -s)" != Darwin ] || PATH=$(brew --prefix openjdk)/bin:$PATH
    java_is_new_enough || fail 3 "java on the path is older than $java_wanted. Put a newer one first: PATH=/usr/lib/jvm/…/bin:\$PATH"
  fi
  have mvn || install "it fetches Kafka's jars from Maven Central" maven
}
