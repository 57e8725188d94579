#include <algorithm>
#include <cmath>

#include "search/feedback_search.h"
#include "search/trellis_branches.h"

namespace netpress {

namespace {

// Smallest magnitudes of level that leave an even and an odd state with an integer of even and of odd parity; others
// are multiples of 4 above. Zero is apart: it has even parity in every state.
constexpr float kEvenFirst[2] = {4, 3};
constexpr float kOddFirst[2] = {2, 1};

// The nearest of first, first + 4, first + 8 ...
inline float nearest(float size, float first) {
  return first + 4.0f * std::max(std::nearbyint((size - first) * 0.25f), 0.0f);
}

inline int rate_index(float level) {
  return std::min((static_cast<int>(level) + 1) >> 1, FrozenRates::kMagnitudes - 1);
}

}  // namespace

void feedback_step_scalar(FeedbackSurvivors& survivors, int index, const FeedbackPosition& at,
                          const FrozenRates* rates) {
  float target[8];
  for (int s = 0; s < 8; ++s) {
    target[s] = at.base;
    const float* influence = at.influence;
    for (int k = index - at.reach; k < index; ++k) target[s] += *influence++ * survivors.errors[k][s];
  }
  float even[8];
  float odd[8];
  float even_level[8];
  float odd_level[8];
  bool zero[8];
  for (int s = 0; s < 8; ++s) {
    const float size = std::fabs(target[s]);
    const int negative = std::signbit(target[s]);
    even_level[s] = nearest(size, kEvenFirst[s & 1]);
    odd_level[s] = nearest(size, kOddFirst[s & 1]);
    const float even_error = size - even_level[s];
    const float odd_error = size - odd_level[s];
    even[s] = survivors.cost[s] + (even_error * even_error) * at.importance;
    odd[s] = survivors.cost[s] + (odd_error * odd_error) * at.importance;
    float at_zero = survivors.cost[s] + (size * size) * at.importance;
    if (rates != nullptr) {
      const int neighbour = survivors.neighbour[s];
      const float nonzero = rates->nonzero[negative][neighbour][s];
      even[s] += nonzero + rates->magnitude[negative][rate_index(even_level[s])];
      odd[s] += nonzero + rates->magnitude[negative][rate_index(odd_level[s])];
      at_zero += rates->zero[neighbour][s];
    }
    if (negative) {
      even_level[s] = -even_level[s];
      odd_level[s] = -odd_level[s];
    }
    zero[s] = at_zero < even[s];
    if (zero[s]) {
      even[s] = at_zero;
      even_level[s] = 0;
    }
  }
  float carried[8];
  for (int t = 0; t < 8; ++t) {
    const float by_even = even[kEvenSource[t]];
    const float by_odd = odd[kOddSource[t]];
    const bool takes_odd = by_odd < by_even;
    const int source = takes_odd ? kOddSource[t] : kEvenSource[t];
    const float level = takes_odd ? odd_level[source] : even_level[source];
    survivors.sources[index][t] = source;
    survivors.cost[t] = takes_odd ? by_odd : by_even;
    survivors.errors[index][t] = at.weight - level;
    survivors.neighbour[t] = level == 0 ? 0 : level < 0 ? 1 : 2;
  }
  for (int k = 0; k < index; ++k) {
    for (int t = 0; t < 8; ++t) carried[t] = survivors.errors[k][survivors.sources[index][t]];
    std::copy(carried, carried + 8, survivors.errors[k]);
  }
}

}  // namespace netpress
