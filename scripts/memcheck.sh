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
  filters=(nobody_asks_for however_their_tensors_lie finite_differences dense_layer pooling_ batch_normalisation_ the_loss adam
    odd_values gather)
fi

# By themselves: no Burn is built for them.
binary=$(cargo test -p kernels --lib --no-run --message-format=json | grep '"name":"kernels"' |
  sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[ -n "$binary" ] || { echo "memcheck.sh: cargo named no test binary" >&2; exit 1; }
KILN_KERNELS=portable valgrind --tool=memcheck --error-exitcode=99 --leak-check=no --fair-sched=yes \
  "$binary" --test-threads=1 "${filters[@]}"
