// The weights of a tensor in scan order, for quantisers whose decisions depend on each other.
#pragma once

#include <cstdint>
#include <vector>

#include "coder/scan.h"

namespace netpress {

// The weights themselves for scan order 0, else a copy.
class ScanOrdered {
 public:
  ScanOrdered(const float* weights, const Geometry& geometry) : data_(weights), geometry_(geometry) {
    if (geometry.scan_order == 0) return;
    copy_.reserve(static_cast<size_t>(geometry.size()));
    for_each_segment(geometry, [&](const Segment& s) {
      copy_.insert(copy_.end(), weights + s.begin, weights + s.end);
    });
    data_ = copy_.data();
  }
  const float* data() const { return data_; }

  // Puts row-major levels into scan order.
  void arrange(int32_t* levels) const {
    if (geometry_.scan_order == 0) return;
    const std::vector<int32_t> row_major(levels, levels + geometry_.size());
    size_t i = 0;
    for_each_segment(geometry_, [&](const Segment& s) {
      for (int64_t p = s.begin; p < s.end; ++p) levels[i++] = row_major[static_cast<size_t>(p)];
    });
  }

  // Puts levels that are in scan order back into row-major order.
  void restore(int32_t* levels) const {
    if (geometry_.scan_order == 0) return;
    const std::vector<int32_t> ordered(levels, levels + geometry_.size());
    size_t i = 0;
    for_each_segment(geometry_, [&](const Segment& s) {
      for (int64_t p = s.begin; p < s.end; ++p) levels[p] = ordered[i++];
    });
  }

 private:
  const float* data_;
  Geometry geometry_;
  std::vector<float> copy_;
};

}  // namespace netpress
