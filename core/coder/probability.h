// Two-rate probability estimator with selectable parameter sets, and the cost of a bin in its state.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "coder/probability_tables.h"

namespace netpress {

inline constexpr int kSetCount = 9;
inline constexpr uint32_t kBypassCost = 32768;  // one bypass bin, in 1/32768 bit

// Source: ISO/IEC 15938-17, parameter sets of the probability estimator.
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

// What a bin adds to the states of one set. A one looks the curve up at its state and adds, a zero looks it up at the
// negative state and subtracts; floor(-x / n) = -1 - floor((x - 1) / n) turns the latter into a second table.
struct StepTable {
  int16_t fast[32];  // index 16 + ((fast - (bin == 0)) >> 3)
  int16_t slow[32];  // index 16 + ((slow - (bin == 0)) >> 7)
};

// All that a context-coded bin looks up, in one object so that one register addresses it.
struct BinTables {
  StepTable steps[2 * kSetCount];  // index 2 * set + bin
  // Sub-range of the less probable symbol, the rows of kLpsRange as bytes; index 32 + (sum >> 7). The floor shift comes
  // before the absolute value: negative sums land one column further out than positive ones.
  uint64_t lps_rows[64];
};

constexpr BinTables make_bin_tables() {
  BinTables t{};
  for (int e = 0; e < kSetCount; ++e) {
    StepTable& zero = t.steps[2 * e];
    StepTable& one = t.steps[2 * e + 1];
    for (int i = 0; i < 32; ++i) {
      one.fast[i] = static_cast<int16_t>(kStepCurve[i] >> kEstimatorSets[e].fast_shift);
      one.slow[i] = static_cast<int16_t>(kStepCurve[i] >> kEstimatorSets[e].slow_shift);
      zero.fast[31 - i] = static_cast<int16_t>(-one.fast[i]);
      zero.slow[31 - i] = static_cast<int16_t>(-one.slow[i]);
    }
  }
  for (int i = 1; i < 64; ++i) {
    for (int row = 0; row < 8; ++row) {
      t.lps_rows[i] |= static_cast<uint64_t>(kLpsRange[row][i < 32 ? 32 - i : i - 32]) << (8 * row);
    }
  }
  return t;
}

inline constexpr BinTables kBinTables = make_bin_tables();

// State of one context. |fast| <= 123 and |slow| <= 1923 for every sequence of bins.
struct Context {
  int32_t slow = 0;
  int16_t fast = 0;
  uint16_t set = 0;

  // Source: ISO/IEC 15938-17, initialisation of context variables.
  void reset(unsigned estimator_set) {
    set = static_cast<uint16_t>(estimator_set);
    fast = kEstimatorSets[set].fast;
    slow = kEstimatorSets[set].sum - 16 * fast;
  }

  void restart() { reset(set); }

  int sum() const { return slow + 16 * fast; }

  // In 1/32768 bit.
  uint32_t cost(bool bin) const { return kBinCost[bin][512 + (sum() >> 3)]; }

  // Source: ISO/IEC 15938-17, update of the probability estimator.
  void update(bool bin) {
    const StepTable& steps = kBinTables.steps[2 * size_t{set} + bin];
    const std::ptrdiff_t rounding = static_cast<std::ptrdiff_t>(bin) - 1;
    fast = static_cast<int16_t>(fast + steps.fast[16 + ((fast + rounding) >> 3)]);
    slow += steps.slow[16 + ((slow + rounding) >> 7)];
  }
};

}  // namespace netpress
