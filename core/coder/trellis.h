// The 8-state machine of dependent quantisation, and the mapping between levels and coded integers. Source: ISO/IEC
// 15938-17, dependent quantisation: state transition table and reconstruction of levels.
#pragma once

#include <cstdint>

#include "base/processor.h"

namespace netpress {

inline constexpr uint8_t kNextState[8][2] = {{0, 2}, {7, 5}, {1, 3}, {6, 4}, {2, 0}, {5, 7}, {3, 1}, {4, 6}};

// kNextState in one word, for loops that keep it in a register.
inline constexpr uint64_t kPackedStates = [] {
  uint64_t packed = 0;
  for (int i = 0; i < 16; ++i) packed |= static_cast<uint64_t>(kNextState[i / 2][i % 2]) << (4 * i);
  return packed;
}();

NETPRESS_INLINE uint64_t next_state(uint64_t state, uint64_t parity) {
  return kPackedStates >> (8 * state + 4 * parity) & 7;
}

// State after `count` zeros; the zero transition has cycles of length 1, 2 and 4.
inline unsigned after_zeros(unsigned state, uint64_t count) {
  for (uint64_t i = 0; i < (count & 3); ++i) state = kNextState[state][0];
  return state;
}

// Level in units of the step size -> coded integer. Levels off the trellis path are rounded, as the standard's floor
// shift does; callers that need exactness keep to the path.
inline int32_t coded_from_level(int32_t level, unsigned state) {
  if (level == 0) return 0;
  const int64_t odd = state & 1;
  return static_cast<int32_t>((static_cast<int64_t>(level) + (level > 0 ? odd : -odd)) >> 1);
}

inline int64_t level_from_coded(int32_t coded, unsigned state) {
  const int64_t odd = state & 1;
  return 2 * static_cast<int64_t>(coded) - (coded > 0 ? odd : coded < 0 ? -odd : 0);
}

}  // namespace netpress
