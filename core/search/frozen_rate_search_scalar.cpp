#include <algorithm>

#include "search/frozen_rate_search.h"
#include "search/trellis_branches.h"

namespace netpress {

void frozen_rate_forward_scalar(const float* weights, int64_t count, double reciprocal, const FrozenRates& rates,
                                float* cost, FrozenRateDecision* decisions) {
  int neighbour[8] = {};
  for (int64_t i = 0; i < count; ++i) {
    const FrozenRateCandidates c = frozen_rate_candidates(weights[i], reciprocal, rates);
    float even[8];
    float odd[8];
    unsigned zero_bits = 0;
    for (int s = 0; s < 8; ++s) {
      const float nonzero = cost[s] + rates.nonzero[c.negative][neighbour[s]][s];
      const float at_zero = (cost[s] + rates.zero[neighbour[s]][s]) + c.zero;
      // Even states have the levels 0 and 2 modulo 4, odd ones 3 and 1; the first of each pair has even parity.
      even[s] = nonzero + c.cost[s & 1 ? 3 : 0];
      odd[s] = nonzero + c.cost[s & 1 ? 1 : 2];
      if (at_zero < even[s]) {
        even[s] = at_zero;
        zero_bits |= 1u << s;
      }
    }
    unsigned odd_bits = 0;
    const int sign_class = c.negative ? 1 : 2;
    for (int t = 0; t < 8; ++t) {
      const float by_even = even[kEvenSource[t]];
      const float by_odd = odd[kOddSource[t]];
      const bool takes_odd = by_odd < by_even;
      cost[t] = takes_odd ? by_odd : by_even;
      odd_bits |= static_cast<unsigned>(takes_odd) << t;
      neighbour[t] = takes_odd || !(zero_bits >> kEvenSource[t] & 1) ? sign_class : 0;
    }
    decisions[i] = {static_cast<uint8_t>(zero_bits), static_cast<uint8_t>(odd_bits)};
    if (i % kRebase == kRebase - 1) {
      const float least = *std::min_element(cost, cost + 8);
      for (int t = 0; t < 8; ++t) cost[t] -= least;
    }
  }
}

}  // namespace netpress
