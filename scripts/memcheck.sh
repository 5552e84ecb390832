#!/usr/bin/env bash
# The kernels' tests under valgrind's memcheck, with reads of memory that nobody wrote and accesses past
# an allocation as errors. memcheck knows AVX2 but not AVX-512, so the portable and the AVX2 code run.
# Usage: scripts/memcheck.sh [TEST-FILTER]...   (minutes; needs valgrind)
set -euo pipefail
cd "$(dirname "$0")/.."
command -v valgrind >/dev/null || { echo "memcheck.sh: valgrind is not installed (apt-get install valgrind)" >&2; exit 1; }

# Tests on few and small shapes that reach every kernel.
filters=("$@")
if [ ${#filters[@]} -eq 0 ]; then
  filters=(frozen_weights not_a_number pooling_passes batch_normalisation_ the_loss adam finite_differences other_shapes
    blocks_agree_on_real)
fi

# With `kiln`, whose build of Burn is shared by everything else.
binary=$(cargo test -p kiln -p kernels --lib --no-run --message-format=json | grep '"name":"kernels"' |
  sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[ -n "$binary" ] || { echo "memcheck.sh: cargo named no test binary" >&2; exit 1; }
KILN_KERNELS=portable valgrind --tool=memcheck --error-exitcode=99 --leak-check=no --fair-sched=yes \
  "$binary" --test-threads=1 "${filters[@]}"
