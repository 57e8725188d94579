#include <algorithm>

#include "search/distortion_search.h"

namespace netpress {

void distortion_forward_scalar(const float* weights, int64_t count, double reciprocal, double* cost,
                               uint16_t* decisions) {
  for (int64_t i = 0; i < count; ++i) {
    const double original = (reciprocal * weights[i]) * (weights[i] < 0 ? -1 : 1);
    const int64_t first = std::max<int64_t>(1, static_cast<int64_t>(original) - 1);
    double d[5];
    for (int kind = 0; kind < 4; ++kind) {
      const double error = original - static_cast<double>(first + ((kind - first) & 3));
      d[kind] = error * error;
    }
    d[4] = original * original;
    // One row per state: source and class of the three branches, in order of examination.
    static constexpr uint8_t kTable[8][6] = {{0, 0, 0, 4, 4, 2}, {2, 0, 2, 4, 6, 2}, {0, 2, 4, 0, 4, 4},
                                             {2, 2, 6, 0, 6, 4}, {3, 1, 7, 3, 7, 4}, {1, 1, 5, 3, 5, 4},
                                             {3, 3, 3, 4, 7, 1}, {1, 3, 1, 4, 5, 1}};
    double next[8];
    unsigned decision = 0;
    for (unsigned t = 0; t < 8; ++t) {
      const uint8_t* row = kTable[t];
      double best = cost[row[0]] + d[row[1]];
      const double second = cost[row[2]] + d[row[3]];
      const double third = cost[row[4]] + d[row[5]];
      if (second < best) {
        best = second;
        decision |= 1u << t;
      }
      if (third < best) {
        best = third;
        decision |= 256u << t;
      }
      next[t] = best;
    }
    std::copy(next, next + 8, cost);
    decisions[i] = static_cast<uint16_t>(decision);
  }
}

}  // namespace netpress
