# Shell helpers of tools/run and tools/test: say what happens, and install what is missing.
# Source it; it defines functions only.

# say WORDS: one line about what is being done.
say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

# die WORDS: one line about what is wrong and what to do, then the end.
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# as_root COMMAND…: runs it as it is for root, by sudo for others.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "'$*' needs root: install sudo, or run it as root once"
  fi
}

# need_packages WHY PACKAGE…: installs those Debian packages that are not there.
need_packages() {
  local why=$1 package missing=()
  shift
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null || die "please install ${missing[*]} ($why): this script knows apt only"
  say "installing ${missing[*]} ($why)"
  if [ -z "${need_lists_are_fresh:-}" ]; then
    as_root apt-get update -qq || die "apt-get update failed, so ${missing[*]} cannot be installed"
    need_lists_are_fresh=1
  fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
    die "apt-get install ${missing[*]} failed"
}

# need_command WHY COMMAND PACKAGE: installs PACKAGE unless COMMAND is there, from wherever it came.
need_command() { command -v "$2" >/dev/null || need_packages "$1" "$3"; }

# need_build: the Rust toolchain, and what builds the C libraries inside the codec crates.
need_build() {
  command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH
  command -v cargo >/dev/null || die "cargo is missing: install rustup as https://rustup.rs says, then run this again"
  need_command 'builds libopus' cmake cmake
  need_command 'compiles the codecs and the cryptography' gcc gcc
  need_command 'compiles the AAC decoder' g++ g++
  need_command 'drives the C builds' make make
  [ -e /usr/include/stdio.h ] || need_packages 'headers for the C builds' libc6-dev
}
