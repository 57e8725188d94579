#!/bin/sh
# Builds the fuzz targets, makes their seed corpora and runs each for some seconds: fuzz/run.sh [SECONDS] [SEED]
#
# Needs clang with libFuzzer, cmake and ninja; fuzz_stream.py runs on the netpress that PYTHON (default python3) has.
# BUILD (default build/fuzz) keeps programs, corpora and findings. Ends with exit code 1 at the first finding.
set -eu

seconds=${1:-60}
seed=${2:-1}
root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$root/build/fuzz}
python=${PYTHON:-python3}

cmake -S "$root" -B "$build/core" -G Ninja -DNETPRESS_DEVELOPER=ON -DNETPRESS_FUZZ=ON -DNETPRESS_PYTHON=OFF \
  -DCMAKE_CXX_COMPILER="${CXX:-clang++}"
cmake --build "$build/core" --parallel "${JOBS:-2}"
"$python" "$root/fuzz/make_seeds.py" "$build/corpus"

mkdir -p "$build/findings"
# Short stacks of allocations, and little memory held back: three times as fast.
export ASAN_OPTIONS=malloc_context_size=2:quarantine_size_mb=16
for target in fuzz_payload fuzz_roundtrip fuzz_twins; do
  "$build/core/core/fuzz/$target" -max_total_time="$seconds" -seed="$seed" -max_len=400 -timeout=10 -verbosity=1 \
    -print_final_stats=1 -artifact_prefix="$build/findings/$target-" "$build/corpus/$target" 2>"$build/$target.log" || {
    tail -n 40 "$build/$target.log"
    exit 1
  }
  echo "$target: $(grep -a DONE "$build/$target.log")"
done
"$python" "$root/fuzz/fuzz_stream.py" --seconds "$seconds" --seed "$seed" --findings "$build/findings"
