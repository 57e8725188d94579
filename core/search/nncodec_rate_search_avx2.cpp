// The search with a rate term in vector registers: one row per context, one lane per state, so that all survivors are
// copied and adapted at once.
#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cfloat>
#include <vector>

#include "base/processor.h"
#include "coder/contexts.h"
#include "search/estimator_lanes.h"
#include "search/nncodec_rate_search.h"
#include "search/trellis_branches.h"

namespace netpress {

namespace {

constexpr int kSign = CompactContextLayout::kSign;
constexpr int kGreater = CompactContextLayout::kGreater;
static_assert(kEstimatorSets[0].sum == 0 && kEstimatorSets[0].fast == 0);  // so that contexts start as zeros

NETPRESS_AVX2 NETPRESS_INLINE __m256i costs_of(__m256i contexts, bool bin) {
  const __m256i parts = _mm256_srai_epi16(contexts, 7);
  const int* const costs = reinterpret_cast<const int*>(kBinCost[bin]) + 512;
  return _mm256_i32gather_epi32(costs, _mm256_madd_epi16(parts, _mm256_set1_epi16(1)), 4);
}

// Lanes that see a one become 1, the others -1, in both halves.
NETPRESS_AVX2 NETPRESS_INLINE __m256i signs_of(__m256i ones) {
  return _mm256_blendv_epi8(_mm256_set1_epi16(-1), _mm256_set1_epi16(1), ones);
}

NETPRESS_AVX2 NETPRESS_INLINE __m256i adapted(__m256i contexts, __m256i ones) {
  const __m256i factor = _mm256_set1_epi32(fast_factor(0) | slow_factor(0) << 16);
  const __m256i mask = _mm256_set1_epi32(static_cast<int>(uint32_t{kSlowMask} << 16 | kFastMask));
  return netpress::adapted(contexts, signs_of(ones), factor, mask);
}

// One context of one state, for the rare bins.
struct Lane {
  int32_t& both;

  Context get() const {
    Context c;
    c.fast = static_cast<int16_t>(static_cast<int16_t>(both & 0xFFFF) >> 8);
    c.slow = both >> 20;
    return c;
  }
  uint32_t cost(bool bin) const { return get().cost(bin); }
  void update(bool bin) {
    Context c = get();
    c.update(bin);
    both = static_cast<int32_t>(static_cast<uint32_t>(c.slow) << 20 | (static_cast<uint32_t>(c.fast) << 8 & 0xFFFF));
  }
};

// Contexts of all survivors; only those that some state has touched are moved, the others are still the same
// everywhere.
class Rows {
 public:
  explicit Rows(int unary_length)
      : unary_(unary_length),
        prefix_(CompactContextLayout(unary_length).prefix),
        memory_(static_cast<size_t>(8 * CompactContextLayout(unary_length).count + 8)) {
    rows_ = memory_.data() + (32 - reinterpret_cast<uintptr_t>(memory_.data()) % 32) % 32 / sizeof(int32_t);
  }

  int unary() const { return unary_; }

  NETPRESS_AVX2 NETPRESS_INLINE __m256i row(int index) const { return _mm256_load_si256(pointer(index)); }

  // A row for each lane.
  NETPRESS_AVX2 NETPRESS_INLINE __m256i pick(__m256i index) const {
    return _mm256_i32gather_epi32(rows_, places(index), 4);
  }

  NETPRESS_AVX2 NETPRESS_INLINE void put(__m256i index, __m256i contexts) {
    alignas(32) int32_t place[8];
    alignas(32) int32_t value[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(place), places(index));
    _mm256_store_si256(reinterpret_cast<__m256i*>(value), contexts);
    for (int t = 0; t < 8; ++t) rows_[place[t]] = value[t];
  }

  // Every state takes over the contexts of its source.
  NETPRESS_AVX2 NETPRESS_INLINE void move(__m256i sources) {
    for (int i = 0; i < touched_; ++i) _mm256_store_si256(pointer(i), _mm256_permutevar8x32_epi32(row(i), sources));
  }

  // Adapts one row in some lanes.
  NETPRESS_AVX2 NETPRESS_INLINE void adapt(int index, __m256i ones, __m256i lanes) {
    const __m256i old = row(index);
    _mm256_store_si256(pointer(index), _mm256_blendv_epi8(old, adapted(old, ones), lanes));
  }

  // Adapts the greater-than flags to the magnitudes, of which none is above `largest`, nor that above the unary length.
  NETPRESS_AVX2 NETPRESS_INLINE void adapt_flags(__m256i sizes, bool negative, int largest) {
    for (int j = 0; j < largest; ++j) {
      const int index = kGreater + 2 * j + negative;
      const __m256i before = row(index);
      const __m256i after = adapted(before, _mm256_cmpgt_epi32(sizes, _mm256_set1_epi32(j + 1)));
      const __m256i coded = _mm256_cmpgt_epi32(sizes, _mm256_set1_epi32(j));
      _mm256_store_si256(pointer(index), _mm256_blendv_epi8(before, after, coded));
    }
    touched_ = std::max(touched_, kGreater + 2 * largest);
  }

  // The same for one state and any magnitude.
  void adapt_magnitude(int state, bool negative, int64_t size) {
    bins(negative, size, [&](int index, bool bin) {
      lane(index, state).update(bin);
      touched_ = std::max(touched_, index + 1);
    });
  }

  int32_t magnitude_cost(int state, bool negative, int64_t size) {
    uint32_t total = 0;
    const int bypassed = bins(negative, size, [&](int index, bool bin) { total += lane(index, state).cost(bin); });
    return static_cast<int32_t>(total + static_cast<uint32_t>(bypassed) * kBypassCost);
  }

 private:
  __m256i* pointer(int index) const { return reinterpret_cast<__m256i*>(rows_ + 8 * index); }
  Lane lane(int index, int state) { return {rows_[8 * index + state]}; }

  NETPRESS_AVX2 NETPRESS_INLINE static __m256i places(__m256i index) {
    return _mm256_add_epi32(_mm256_slli_epi32(index, 3), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }

  // Bins of a magnitude; returns the number of bypass bins after them.
  template <typename Visit>
  int bins(bool negative, int64_t size, Visit&& visit) const {
    int j = 0;
    bool more;
    do {
      more = size > j + 1;
      visit(kGreater + negative + 2 * j, more);
      ++j;
    } while (more && j < unary_);
    if (!more) return 0;
    int64_t rest = size - (j + 1);
    int k = 0;
    for (; rest >= int64_t{1} << k; ++k) {
      visit(prefix_ + k, true);
      rest -= int64_t{1} << k;
    }
    visit(prefix_ + k, false);
    return k;
  }

  int unary_;
  int prefix_;
  int touched_ = kGreater;
  int32_t* rows_;
  std::vector<int32_t> memory_;
};

struct Pair256 {
  __m256d low;
  __m256d high;
};

// (cost + distortion) + rate in all states.
NETPRESS_AVX2 NETPRESS_INLINE Pair256 totals(const Pair256& cost, __m256d distortion, __m256i rate) {
  const __m256d low = _mm256_cvtepi32_pd(_mm256_castsi256_si128(rate));
  const __m256d high = _mm256_cvtepi32_pd(_mm256_extracti128_si256(rate, 1));
  return {_mm256_add_pd(_mm256_add_pd(cost.low, distortion), low),
          _mm256_add_pd(_mm256_add_pd(cost.high, distortion), high)};
}

// Takes the smaller costs into `best`; all ones in the 32-bit lanes where `offer` is the smaller one.
NETPRESS_AVX2 NETPRESS_INLINE __m256i improve(Pair256& best, const Pair256& offer) {
  const __m256 low = _mm256_castpd_ps(_mm256_cmp_pd(offer.low, best.low, _CMP_LT_OQ));
  const __m256 high = _mm256_castpd_ps(_mm256_cmp_pd(offer.high, best.high, _CMP_LT_OQ));
  best = {_mm256_min_pd(offer.low, best.low), _mm256_min_pd(offer.high, best.high)};
  return _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(low, high, 0x88)), 0xD8);
}

NETPRESS_AVX2 NETPRESS_INLINE unsigned mask_of(__m256i lanes) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(lanes)));
}

// Source or class of branch `number` into every state.
template <int kNumber, bool kSource>
NETPRESS_AVX2 NETPRESS_INLINE __m256i branches() {
  alignas(32) static constexpr std::array<int32_t, 8> kTable = [] {
    std::array<int32_t, 8> table{};
    for (size_t t = 0; t < 8; ++t) table[t] = kSource ? kBranches[t][kNumber].source : kBranches[t][kNumber].kind;
    return table;
  }();
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(kTable.data()));
}

// The offers of branch `number` to every state, out of totals by class group (of even states 0 and 2, of odd ones 1 and
// 3; then zero) and state.
template <int kNumber>
NETPRESS_AVX2 NETPRESS_INLINE Pair256 offers(const double (*total)[8]) {
  const auto at = [&](int t) {
    const Branch b = kBranches[t][kNumber];
    return total[b.kind == kZeroKind ? 2 : b.kind >> 1][b.source];
  };
  return {_mm256_setr_pd(at(0), at(1), at(2), at(3)), _mm256_setr_pd(at(4), at(5), at(6), at(7))};
}

}  // namespace

NETPRESS_AVX2 void nncodec_rate_forward_avx2(const float* weights, int64_t count, const RateSearch& search,
                                             double* cost, uint16_t* decisions) {
  Rows rows(search.unary_length);
  const __m256i triple = _mm256_setr_epi32(0, 3, 6, 9, 12, 15, 18, 21);
  const __m256i odd_states = _mm256_setr_epi32(0, -1, 0, -1, 0, -1, 0, -1);
  Pair256 costs{_mm256_loadu_pd(cost), _mm256_loadu_pd(cost + 4)};
  // Neighbour of each state, as a ternary context: of the weight before, and of the one before that.
  __m256i neighbours = _mm256_setzero_si256();
  __m256i older = neighbours;
  int before = 1;
  int before_that = 1;
  for (int64_t i = 0; i < count; ++i) {
    const RateCandidates c = rate_candidates(weights[i], search);
    const bool negative = weights[i] < 0;

    const __m256i significance = rows.pick(_mm256_add_epi32(triple, neighbours));
    // A neighbour is zero or what all states have in common: the sign of the weight before.
    const __m256i has_neighbour = _mm256_cmpgt_epi32(neighbours, _mm256_setzero_si256());
    const __m256i signs = _mm256_blendv_epi8(rows.row(kSign), rows.row(kSign + before), has_neighbour);
    const __m256i nonzero = _mm256_add_epi32(costs_of(significance, true), costs_of(signs, negative));
    // Magnitudes by class. Those of even states, as those of odd ones, differ by one; the odd ones are equal to the
    // even ones or above them by one.
    int64_t size[4];
    for (int kind = 0; kind < 4; ++kind) size[kind] = magnitude(c.coded[kind]);
    const int64_t least = std::min(size[0], size[2]);
    const int64_t shift = std::min(size[1], size[3]) - least;
    const bool in_flags = least + 2 <= rows.unary();
    __m256i low;
    __m256i high;
    if (in_flags) {
      __m256i shared = nonzero;
      const int first = kGreater + negative;
      const int m = static_cast<int>(least);
      for (int j = 0; j < m - 1; ++j) shared = _mm256_add_epi32(shared, costs_of(rows.row(first + 2 * j), true));
      const __m256i flag = rows.row(first + 2 * (m - 1));
      const __m256i flag_above = rows.row(first + 2 * m);
      low = _mm256_add_epi32(shared, costs_of(flag, false));
      shared = _mm256_add_epi32(shared, costs_of(flag, true));
      high = _mm256_add_epi32(shared, costs_of(flag_above, false));
      if (shift != 0) {
        shared = _mm256_add_epi32(shared, costs_of(flag_above, true));
        const __m256i higher = _mm256_add_epi32(shared, costs_of(rows.row(first + 2 * (m + 1)), false));
        low = _mm256_blendv_epi8(low, high, odd_states);
        high = _mm256_blendv_epi8(high, higher, odd_states);
      }
    } else {
      alignas(32) int32_t rates[2][8];
      for (int s = 0; s < 8; ++s) {
        const int64_t smaller = std::min(size[s & 1], size[(s & 1) + 2]);
        rates[0][s] = rows.magnitude_cost(s, negative, smaller);
        rates[1][s] = rows.magnitude_cost(s, negative, smaller + 1);
      }
      low = _mm256_add_epi32(nonzero, _mm256_load_si256(reinterpret_cast<const __m256i*>(rates[0])));
      high = _mm256_add_epi32(nonzero, _mm256_load_si256(reinterpret_cast<const __m256i*>(rates[1])));
    }
    // Of classes 0 and 1 where the class two above them has the smaller magnitude: the two change places.
    const int even_swap = -static_cast<int>(size[0] > size[2]);
    const int odd_swap = -static_cast<int>(size[1] > size[3]);
    const __m256i swaps = _mm256_blendv_epi8(_mm256_set1_epi32(even_swap), _mm256_set1_epi32(odd_swap), odd_states);
    const __m256i rate_first = _mm256_blendv_epi8(low, high, swaps);
    const __m256i rate_second = _mm256_blendv_epi8(high, low, swaps);

    alignas(32) double total[3][8];
    const __m256d distortion_first = _mm256_broadcast_pd(reinterpret_cast<const __m128d*>(c.distortion));
    const __m256d distortion_second = _mm256_broadcast_pd(reinterpret_cast<const __m128d*>(c.distortion + 2));
    const Pair256 sums[3] = {totals(costs, distortion_first, rate_first), totals(costs, distortion_second, rate_second),
                             totals(costs, _mm256_set1_pd(c.distortion[kZeroKind]), costs_of(significance, false))};
    for (int k = 0; k < 3; ++k) {
      _mm256_store_pd(total[k], sums[k].low);
      _mm256_store_pd(total[k] + 4, sums[k].high);
    }
    costs = {_mm256_set1_pd(DBL_MAX), _mm256_set1_pd(DBL_MAX)};
    const __m256i takes_0 = improve(costs, offers<0>(total));
    const __m256i takes_1 = improve(costs, offers<1>(total));
    const __m256i takes_2 = improve(costs, offers<2>(total));
    const auto chosen = [&](__m256i none, __m256i b0, __m256i b1, __m256i b2) NETPRESS_AVX2 {
      return _mm256_blendv_epi8(_mm256_blendv_epi8(_mm256_blendv_epi8(none, b0, takes_0), b1, takes_1), b2, takes_2);
    };
    const __m256i sources =
        chosen(_mm256_setzero_si256(), branches<0, true>(), branches<1, true>(), branches<2, true>());
    const __m256i kinds =
        chosen(_mm256_set1_epi32(kZeroKind), branches<0, false>(), branches<1, false>(), branches<2, false>());
    const unsigned third = mask_of(takes_2);
    const unsigned second = mask_of(takes_1) & ~third;
    const unsigned none = ~(mask_of(takes_0) | second | third) & 255;
    decisions[i] = static_cast<uint16_t>(second | none | (third | none) << 8);

    rows.move(sources);
    const __m256i by_kind = _mm256_setr_epi32(static_cast<int>(size[0]), static_cast<int>(size[1]),
                                              static_cast<int>(size[2]), static_cast<int>(size[3]), 0, 0, 0, 0);
    const __m256i sizes = _mm256_permutevar8x32_epi32(by_kind, kinds);
    const __m256i some = _mm256_cmpgt_epi32(sizes, _mm256_setzero_si256());
    const __m256i significance_index = _mm256_add_epi32(triple, older);
    rows.put(significance_index, adapted(rows.pick(significance_index), some));
    if (mask_of(some) != 0) {
      const __m256i has_older = _mm256_cmpgt_epi32(older, _mm256_setzero_si256());
      const __m256i bin = _mm256_set1_epi32(-static_cast<int>(negative));
      rows.adapt(kSign, bin, _mm256_andnot_si256(has_older, some));
      rows.adapt(kSign + before_that, bin, _mm256_and_si256(has_older, some));
      if (in_flags) {
        rows.adapt_flags(sizes, negative, static_cast<int>(least + 1 + shift));
      } else {
        alignas(32) int32_t each[8];
        _mm256_store_si256(reinterpret_cast<__m256i*>(each), sizes);
        for (int t = 0; t < 8; ++t) {
          if (each[t] != 0) rows.adapt_magnitude(t, negative, each[t]);
        }
      }
    }
    older = neighbours;
    before_that = before;
    before = negative ? 1 : 2;
    neighbours = _mm256_and_si256(some, _mm256_set1_epi32(before));
  }
  _mm256_storeu_pd(cost, costs.low);
  _mm256_storeu_pd(cost + 4, costs.high);
}

}  // namespace netpress

#endif
