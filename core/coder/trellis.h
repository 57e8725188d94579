// The 8-state machine of dependent quantisation, and the mapping between levels and coded integers.
#pragma once

#include <algorithm>
#include <cmath>
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

// Branches of the trellis searches into each state, in order of examination: where from, and which class of candidate.
// Classes 0..3 are level magnitudes modulo 4, the last class is zero.
struct Branch {
  uint8_t source;
  uint8_t kind;
};
inline constexpr uint8_t kZeroKind = 4;
inline constexpr Branch kBranches[8][3] = {
    {{0, 0}, {0, 4}, {4, 2}}, {{2, 0}, {2, 4}, {6, 2}}, {{0, 2}, {4, 0}, {4, 4}}, {{2, 2}, {6, 0}, {6, 4}},
    {{3, 1}, {7, 3}, {7, 4}}, {{1, 1}, {5, 3}, {5, 4}}, {{3, 3}, {3, 4}, {7, 1}}, {{1, 3}, {1, 4}, {5, 1}}};

// Smallest candidate magnitude for a scaled weight.
inline int64_t first_candidate(double magnitude) {
  return std::max<int64_t>(1, static_cast<int64_t>(magnitude) - 1);
}

// Magnitude of the candidate of class `kind` (0..3) among first .. first + 3.
inline int64_t candidate(int64_t first, int kind) { return first + ((kind - first) & 3); }

// Level of class `kind` for a weight. Without a branch, because neither signs nor classes can be predicted.
inline int32_t level_of(float weight, double reciprocal, int kind) {
  const int64_t level = candidate(first_candidate(std::fabs(reciprocal * weight)), kind);
  const int64_t sign = -static_cast<int64_t>(weight < 0);
  const int64_t some = -static_cast<int64_t>(kind != kZeroKind);
  return static_cast<int32_t>(((level ^ sign) - sign) & some);
}

// Follows the decisions of a search back from its last state: step(i, state) returns the branch that led to `state` at
// weight i. Classes first, in a short chain, then levels.
template <typename Step>
void trace_back(const float* weights, int32_t* levels, int64_t count, double reciprocal, unsigned state, Step&& step) {
  constexpr int64_t kBlock = 256;
  uint8_t kinds[kBlock];
  for (int64_t end = count; end > 0;) {
    const int64_t begin = std::max<int64_t>(0, end - kBlock);
    for (int64_t i = end - 1; i >= begin; --i) {
      const Branch branch = step(i, state);
      kinds[i - begin] = branch.kind;
      state = branch.source;
    }
    for (int64_t i = begin; i < end; ++i) levels[i] = level_of(weights[i], reciprocal, kinds[i - begin]);
    end = begin;
  }
}

}  // namespace netpress
