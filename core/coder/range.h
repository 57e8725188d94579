// The range of the arithmetic coder, as both ends divide and normalise it. Source: ISO/IEC 15938-17, arithmetic coding
// engine: sub-range of the less probable symbol, renormalisation.
#pragma once

#include <cstddef>
#include <cstdint>

#include "coder/probability.h"

namespace netpress {

inline uint64_t lps_range(uint64_t range, std::ptrdiff_t sum) {
  return kBinTables.lps_rows[32 + (sum >> 7)] >> (range >> 2 & 56) & 255;
}

// Doublings that bring a range back to 256 .. 511.
inline int normalising_shift(uint64_t range) { return __builtin_clzll(range) - 55; }

}  // namespace netpress
