// Traversal of a tensor: row-major and block scans, row segments, block rows. Source: ISO/IEC 15938-17, scan order of
// quantised weights.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace netpress {

// Geometry of a tensor as the coder sees it: `rows` x `columns`, row-major.
struct Geometry {
  int64_t rows = 0;
  int64_t columns = 0;
  int scan_order = 0;  // 0 row-major, 1..4 blocks of edge 4 << scan_order; must be 0 unless matrix_like()

  bool matrix_like() const { return columns > 1 && rows > 1; }
  int64_t size() const { return rows * columns; }
  int64_t block_edge() const { return int64_t{4} << scan_order; }
  int64_t block_rows() const { return scan_order == 0 ? 0 : (rows + block_edge() - 1) / block_edge(); }
};

// A run of consecutive positions inside one row.
struct Segment {
  int64_t row;
  int64_t begin;  // index into the row-major array
  int64_t end;
  bool closes_block_row;  // the last segment of a block row that is not the last one
};

// Calls visit(Segment) for every segment in scan order. The whole row for scan order 0. A visitor that returns false
// ends the walk.
template <typename Visit>
void for_each_segment(const Geometry& g, Visit&& visit) {
  const auto goes_on = [&](const Segment& s) {
    if constexpr (std::is_void_v<decltype(visit(s))>) {
      visit(s);
      return true;
    } else {
      return static_cast<bool>(visit(s));
    }
  };
  if (g.scan_order == 0) {
    for (int64_t y = 0; y < g.rows; ++y) {
      if (!goes_on(Segment{y, y * g.columns, (y + 1) * g.columns, false})) return;
    }
    return;
  }
  const int64_t edge = g.block_edge();
  for (int64_t top = 0; top < g.rows; top += edge) {
    const int64_t bottom = std::min(g.rows, top + edge);
    for (int64_t left = 0; left < g.columns; left += edge) {
      const int64_t right = std::min(g.columns, left + edge);
      for (int64_t y = top; y < bottom; ++y) {
        const bool closes = right == g.columns && y == bottom - 1 && bottom < g.rows;
        if (!goes_on(Segment{y, y * g.columns + left, y * g.columns + right, closes})) return;
      }
    }
  }
}

}  // namespace netpress
