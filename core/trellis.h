// The 8-state machine of dependent quantisation, and the mapping between levels and coded integers.
#pragma once

#include <cstdint>

namespace netpress {

inline constexpr uint8_t kNextState[8][2] = {{0, 2}, {7, 5}, {1, 3}, {6, 4}, {2, 0}, {5, 7}, {3, 1}, {4, 6}};

// States from which each state is reached by an integer of even and of odd parity.
inline constexpr int kEvenSource[8] = {0, 2, 4, 6, 7, 5, 3, 1};
inline constexpr int kOddSource[8] = {4, 6, 0, 2, 3, 1, 7, 5};

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
