// Two-rate probability estimator with selectable parameter sets, and the cost of a bin in its state.
#pragma once

#include <array>
#include <cstdint>

#include "tables.h"

namespace netpress {

inline constexpr int kSetCount = 9;
inline constexpr uint32_t kBypassCost = 32768;  // one bypass bin, in 1/32768 bit

struct EstimatorSet {
  uint8_t fast_shift;
  uint8_t slow_shift;
  int16_t sum;
  int16_t fast;
};

inline constexpr EstimatorSet kEstimatorSets[kSetCount] = {
    {5, 4, 0, 0},    {5, 4, -1310, -41}, {5, 4, 3039, 95}, {4, 5, 0, 0},  {6, 6, 962, 30},
    {6, 6, 3039, 95}, {6, 6, -673, -21},  {7, 5, 0, 0},     {7, 5, 962, 30}};

inline constexpr int16_t kStepCurve[32] = {2512, 2288, 2064, 1840, 1616, 1392, 1168, 944, 720, 560, 464,
                                           368,  272,  208,  144,  80,   64,   64,   64,  64,  64,  64,
                                           64,   64,   64,   64,   64,   64,   64,   64,  64,  0};

// Step curve shifted for the fast and the slow state of every set.
struct StepTables {
  int16_t fast[kSetCount][32];
  int16_t slow[kSetCount][32];
};

constexpr StepTables make_step_tables() {
  StepTables t{};
  for (int e = 0; e < kSetCount; ++e) {
    for (int i = 0; i < 32; ++i) {
      t.fast[e][i] = static_cast<int16_t>(kStepCurve[i] >> kEstimatorSets[e].fast_shift);
      t.slow[e][i] = static_cast<int16_t>(kStepCurve[i] >> kEstimatorSets[e].slow_shift);
    }
  }
  return t;
}

inline constexpr StepTables kSteps = make_step_tables();

// State of one context. |fast| <= 123 and |slow| <= 1923 for every sequence of bins.
struct Context {
  int16_t fast = 0;
  int16_t slow = 0;
  uint32_t set = 0;

  void reset(unsigned estimator_set) {
    set = estimator_set;
    fast = kEstimatorSets[set].fast;
    slow = static_cast<int16_t>(kEstimatorSets[set].sum - 16 * fast);
  }

  void restart() { reset(set); }

  int sum() const { return slow + 16 * fast; }

  uint32_t cost(bool bin) const { return kBinCost[bin][512 + (sum() >> 3)]; }

  void update(bool bin) {
    const int mirror = static_cast<int>(bin) - 1;  // 0 for a one, -1 for a zero
    const int fast_index = 16 + (((fast ^ mirror) - mirror) >> 3);
    const int slow_index = 16 + (((slow ^ mirror) - mirror) >> 7);
    fast = static_cast<int16_t>(fast + ((kSteps.fast[set][fast_index] ^ mirror) - mirror));
    slow = static_cast<int16_t>(slow + ((kSteps.slow[set][slow_index] ^ mirror) - mirror));
  }
};

}  // namespace netpress
