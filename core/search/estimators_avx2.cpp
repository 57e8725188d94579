#if defined(__x86_64__)
#include <algorithm>

#include "base/processor.h"
#include "search/estimator_lanes.h"
#include "search/estimators.h"

namespace netpress {

namespace {

// Bins between two additions to the 64-bit costs: even at the highest price their sum fits 32 bits.
constexpr size_t kStretch = 4096;
constexpr uint32_t kHighestCost = [] {
  uint32_t highest = 0;
  for (const auto& row : kBinCost) {
    for (const uint32_t cost : row) highest = std::max(highest, cost);
  }
  return highest;
}();
static_assert(uint64_t{kHighestCost} * kStretch < uint64_t{1} << 32);

// A vector holds one context: the lanes of its fast states, then those of its slow states. Set 7 needs no lane: its
// fast state is always 0, and its slow state is that of set 3.
constexpr size_t kLanes = 8;
constexpr uint8_t kLaneSets[kLanes] = {0, 1, 2, 3, 4, 5, 6, 8};
static_assert(kStepCurve[16] >> kEstimatorSets[7].fast_shift == 0 && kEstimatorSets[7].fast == 0 &&
              kEstimatorSets[7].sum == 0 && kEstimatorSets[7].slow_shift == kEstimatorSets[3].slow_shift &&
              kEstimatorSets[3].fast == 0 && kEstimatorSets[3].sum == 0);

struct alignas(32) LaneTables {
  uint16_t factor[2 * kLanes];
  uint16_t mask[2 * kLanes];
};

constexpr LaneTables make_lane_tables() {
  LaneTables t{};
  for (size_t i = 0; i < kLanes; ++i) {
    t.factor[i] = fast_factor(kLaneSets[i]);
    t.mask[i] = kFastMask;
    t.factor[kLanes + i] = slow_factor(kLaneSets[i]);
    t.mask[kLanes + i] = kSlowMask;
  }
  return t;
}

constexpr LaneTables kLaneTables = make_lane_tables();

struct Slot {
  EstimatorBank* bank;
  const uint8_t* bins;
  size_t left;
};

// Advances the first kSlots slots by `count` bins. Side by side, they hide each other's latency.
template <size_t kSlots>
NETPRESS_AVX2 void advance(Slot* slots, size_t count) {
  const __m256i factor = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kLaneTables.factor));
  const __m256i mask = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kLaneTables.mask));
  alignas(32) int16_t lanes[2 * kLanes];
  __m256i state[kSlots];
  __m256i cost[kSlots];
  uint32_t cost_7[kSlots];
  for (size_t k = 0; k < kSlots; ++k) {
    for (size_t i = 0; i < kLanes; ++i) {
      const Context& c = slots[k].bank->state[kLaneSets[i]];
      lanes[i] = static_cast<int16_t>(c.fast * 256);
      lanes[kLanes + i] = static_cast<int16_t>(c.slow * 16);
    }
    state[k] = _mm256_load_si256(reinterpret_cast<const __m256i*>(lanes));
    cost[k] = _mm256_setzero_si256();
    cost_7[k] = 0;
  }
  for (size_t n = 0; n < count; ++n) {
    for (size_t k = 0; k < kSlots; ++k) {
      const unsigned bin = slots[k].bins[n];
      const int* const costs = reinterpret_cast<const int*>(kBinCost[bin]) + 512;
      const __m256i parts = _mm256_srai_epi16(state[k], 7);
      const __m128i index = _mm_add_epi16(_mm256_castsi256_si128(parts), _mm256_extracti128_si256(parts, 1));
      cost[k] = _mm256_add_epi32(cost[k], _mm256_i32gather_epi32(costs, _mm256_cvtepi16_epi32(index), 4));
      cost_7[k] += static_cast<uint32_t>(costs[static_cast<int16_t>(_mm256_extract_epi16(parts, kLanes + 3))]);

      const __m256i sign = _mm256_set1_epi16(static_cast<int16_t>(2 * static_cast<int>(bin) - 1));
      state[k] = adapted(state[k], sign, factor, mask);
    }
  }
  for (size_t k = 0; k < kSlots; ++k) {
    alignas(32) uint32_t sums[kLanes];
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), state[k]);
    _mm256_store_si256(reinterpret_cast<__m256i*>(sums), cost[k]);
    EstimatorBank& bank = *slots[k].bank;
    for (size_t i = 0; i < kLanes; ++i) {
      Context& c = bank.state[kLaneSets[i]];
      c.fast = static_cast<int16_t>(lanes[i] >> 8);
      c.slow = lanes[kLanes + i] >> 4;
      bank.cost[kLaneSets[i]] += sums[i];
    }
    bank.state[7].slow = bank.state[3].slow;
    bank.cost[7] += cost_7[k];
    slots[k].bins += count;
    slots[k].left -= count;
  }
}

}  // namespace

void run_estimators_avx2(const BinString* strings, size_t count) {
  Slot slots[4];
  size_t used = 0;
  size_t next = 0;
  for (;;) {
    for (; used < 4 && next < count; ++next) {
      if (strings[next].count > 0) slots[used++] = {strings[next].bank, strings[next].bins, strings[next].count};
    }
    if (used == 0) return;
    size_t steps = kStretch;
    for (size_t k = 0; k < used; ++k) steps = std::min(steps, slots[k].left);
    switch (used) {
      case 1: advance<1>(slots, steps); break;
      case 2: advance<2>(slots, steps); break;
      case 3: advance<3>(slots, steps); break;
      default: advance<4>(slots, steps); break;
    }
    used = static_cast<size_t>(std::remove_if(slots, slots + used, [](const Slot& s) { return s.left == 0; }) - slots);
  }
}

}  // namespace netpress

#endif
