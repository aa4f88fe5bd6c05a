# The targets and how they are built. Sourced by the scripts beside it, in whose folder the shell stands.
# shellcheck shell=bash disable=SC2034  # the targets are for whoever sources this

targets=()

# build_targets [TARGET...]: sets `targets`, to all without one, and builds them. With the versions of everything that the
# product has: they are not locked twice.
build_targets() {
  local all target
  mapfile -t all < <(cd libfuzzer/targets && printf '%s\n' *.rs | sed 's/\.rs$//')
  for target in "$@"; do
    if ! printf '%s\n' "${all[@]}" | grep -qx -- "$target"; then
      echo "no such target: $target; there are: ${all[*]}" >&2
      exit 2
    fi
  done
  if (($#)); then targets=("$@"); else targets=("${all[@]}"); fi
  cp ../Cargo.lock libfuzzer/Cargo.lock
  echo "building (some minutes the first time)"
  # Without a sanitizer, which wants a nightly compiler: it would find little where there is no unsafe code.
  cargo fuzz build --fuzz-dir libfuzzer --sanitizer none >"libfuzzer/build.log" 2>&1 || {
    tail -n 30 libfuzzer/build.log >&2
    echo "the targets could not be built; the whole output is in fuzz/libfuzzer/build.log" >&2
    exit 1
  }
}

# binary TARGET
binary() { echo "libfuzzer/target/$(rustc -vV | sed -n 's/^host: //p')/release/$1"; }
