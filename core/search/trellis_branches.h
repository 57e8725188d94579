// What the trellis searches have in common: the ways into each state, the candidate levels of a weight, and the way
// back over the decisions.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "coder/trellis.h"

namespace netpress {

// States from which each state is reached by an integer of even and of odd parity.
inline constexpr int kEvenSource[8] = {0, 2, 4, 6, 7, 5, 3, 1};
inline constexpr int kOddSource[8] = {4, 6, 0, 2, 3, 1, 7, 5};

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
