// Arrays that cross the border to Python, and the checks that all bindings share.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>

#include "coder/scan.h"

namespace netpress::bindings {

template <typename T>
using Input = nanobind::ndarray<nanobind::numpy, const T, nanobind::ndim<1>, nanobind::c_contig, nanobind::device::cpu>;
template <typename T>
using Output = nanobind::ndarray<nanobind::numpy, T, nanobind::ndim<1>, nanobind::c_contig, nanobind::device::cpu>;

// An array of the size that is needed, at an address that its type allows.
template <typename Array>
void expect(const Array& array, int64_t size, const char* what) {
  if (static_cast<int64_t>(array.size()) != size) throw nanobind::value_error(what);
  if (reinterpret_cast<uintptr_t>(array.data()) % sizeof(*array.data()) != 0) {
    throw nanobind::value_error("an array is not aligned");
  }
}

// An array of any size.
template <typename Array>
void expect_aligned(const Array& array) {
  expect(array, static_cast<int64_t>(array.size()), "");
}

inline Geometry geometry_of(int64_t rows, int64_t columns, int scan_order) {
  if (rows < 0 || columns < 0 || (columns > 0 && rows > (int64_t{1} << 62) / columns)) {
    throw nanobind::value_error("impossible tensor dimensions");
  }
  Geometry g;
  g.rows = rows;
  g.columns = columns;
  g.scan_order = scan_order;
  return g;
}

void bind_coder(nanobind::module_& m);
void bind_quantizers(nanobind::module_& m);
void bind_feedback(nanobind::module_& m);

}  // namespace netpress::bindings
