#!/bin/sh
# Runs the Python tests once on a core built with the address and undefined-behaviour sanitizers.
#
#   tools/sanitize.sh [ARGUMENTS OF PYTEST]
#
# Needs g++, cmake, ninja and a Python with netpress's test dependencies and nanobind (variable PYTHON, default python3).
# Everything is built under build/sanitize (variable BUILD); an installed netpress is neither used nor changed.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$root/build/sanitize}
python=${PYTHON:-python3}
mkdir -p "$build"

# An environment that sees the packages of the outer one, but not its netpress, which an import hook may provide.
"$python" -m venv --without-pip "$build/venv"
inner=$("$build/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$inner/outer.pth"
nanobind=$("$build/venv/bin/python" -m nanobind --cmake_dir)

cmake -S "$root" -B "$build/core" -G Ninja -DCMAKE_CXX_COMPILER="${CXX:-g++}" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
  -DNETPRESS_SANITIZE=address,undefined -DPython_EXECUTABLE="$build/venv/bin/python" -Dnanobind_DIR="$nanobind"
cmake --build "$build/core" --parallel "${JOBS:-2}"

rm -rf "$build/site"
mkdir -p "$build/site"
cp -R "$root/src/netpress" "$build/site/netpress"
rm -f "$build/site/netpress"/_core*.so
cp "$build/core"/_core*.so "$build/site/netpress/"

# The sanitizer has to come first, and needs the C++ library to see exceptions being thrown. Buffers of small Python
# objects get a malloc of their own, so that reads beyond their end are seen.
LD_PRELOAD="$("${CXX:-g++}" -print-file-name=libasan.so) $("${CXX:-g++}" -print-file-name=libstdc++.so)"
export LD_PRELOAD
export PYTHONPATH="$build/site" PYTHONMALLOC=malloc PYTHONDONTWRITEBYTECODE=1
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:malloc_context_size=8
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
cd "$root"
"$build/venv/bin/python" -c 'import netpress._core as core; print("core under test:", core.__file__)'
exec "$build/venv/bin/python" -m pytest -p no:cacheprovider "$@"
