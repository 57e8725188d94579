// The choice that every step of a trellis search with error feedback makes: each state is reached by the cheaper of two
// branches, from survivors that have targets of their own. Scalar and in vector registers, with equal results.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/processor.h"
#include "search/frozen_rate_search.h"
#include "search/trellis_branches.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace netpress {

// The step that was taken into each of the eight states.
struct SurvivorChoice {
  int32_t source[8];  // state before
  float level[8];
};

// Smallest magnitudes of level that leave an even and an odd state with an integer of even and of odd parity; others
// are multiples of 4 above. Zero is apart: it has even parity in every state.
inline constexpr float kEvenFirst[2] = {4, 3};
inline constexpr float kOddFirst[2] = {2, 1};

// Updates costs and classes of the last integer, and says which steps were taken. `rates` may be null.
NETPRESS_INLINE SurvivorChoice choose_survivors(const float* target, float importance, const FrozenRates* rates,
                                                float* cost, int32_t* neighbour) {
  // The nearest of first, first + 4, first + 8 ...
  const auto nearest = [](float size, float first) {
    return first + 4.0f * std::max(std::nearbyint((size - first) * 0.25f), 0.0f);
  };
  const auto rate_index = [](float level) {
    return std::min((static_cast<int>(level) + 1) >> 1, FrozenRates::kMagnitudes - 1);
  };
  float even[8];
  float odd[8];
  float even_level[8];
  float odd_level[8];
  for (int s = 0; s < 8; ++s) {
    const float size = std::fabs(target[s]);
    const int negative = std::signbit(target[s]);
    even_level[s] = nearest(size, kEvenFirst[s & 1]);
    odd_level[s] = nearest(size, kOddFirst[s & 1]);
    const float even_error = size - even_level[s];
    const float odd_error = size - odd_level[s];
    even[s] = cost[s] + (even_error * even_error) * importance;
    odd[s] = cost[s] + (odd_error * odd_error) * importance;
    float at_zero = cost[s] + (size * size) * importance;
    if (rates != nullptr) {
      const float nonzero = rates->nonzero[negative][neighbour[s]][s];
      even[s] += nonzero + rates->magnitude[negative][rate_index(even_level[s])];
      odd[s] += nonzero + rates->magnitude[negative][rate_index(odd_level[s])];
      at_zero += rates->zero[neighbour[s]][s];
    }
    if (negative) {
      even_level[s] = -even_level[s];
      odd_level[s] = -odd_level[s];
    }
    if (at_zero < even[s]) {
      even[s] = at_zero;
      even_level[s] = 0;
    }
  }
  SurvivorChoice choice;
  for (int t = 0; t < 8; ++t) {
    const float by_even = even[kEvenSource[t]];
    const float by_odd = odd[kOddSource[t]];
    const bool takes_odd = by_odd < by_even;
    const int source = takes_odd ? kOddSource[t] : kEvenSource[t];
    const float level = takes_odd ? odd_level[source] : even_level[source];
    choice.source[t] = source;
    choice.level[t] = level;
    cost[t] = takes_odd ? by_odd : by_even;
    neighbour[t] = level == 0 ? 0 : level < 0 ? 1 : 2;
  }
  return choice;
}

#if defined(__x86_64__)

struct SurvivorLanes {
  __m256i source;
  __m256 level;
};

NETPRESS_AVX2 NETPRESS_INLINE __m256 nearest_lanes(__m256 size, __m256 first) {
  const __m256 quarters = _mm256_mul_ps(_mm256_sub_ps(size, first), _mm256_set1_ps(0.25f));
  const __m256 rounded = _mm256_round_ps(quarters, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256 steps = _mm256_max_ps(rounded, _mm256_setzero_ps());
  return _mm256_add_ps(first, _mm256_mul_ps(_mm256_set1_ps(4.0f), steps));
}

NETPRESS_AVX2 NETPRESS_INLINE __m256 weighted_square(__m256 error, __m256 importance) {
  return _mm256_mul_ps(_mm256_mul_ps(error, error), importance);
}

// Rates of magnitudes; `table` is an offset of 0 or kMagnitudes by sign.
NETPRESS_AVX2 NETPRESS_INLINE __m256 magnitude_rates(const FrozenRates& rates, __m256 level, __m256i table) {
  const __m256i one = _mm256_set1_epi32(1);
  const __m256i sizes = _mm256_srai_epi32(_mm256_add_epi32(_mm256_cvttps_epi32(level), one), 1);
  const __m256i bounded = _mm256_min_epi32(sizes, _mm256_set1_epi32(FrozenRates::kMagnitudes - 1));
  return _mm256_i32gather_ps(rates.magnitude[0], _mm256_add_epi32(bounded, table), 4);
}

// See choose_survivors; lane s is state s.
NETPRESS_AVX2 NETPRESS_INLINE SurvivorLanes choose_survivor_lanes(__m256 target, __m256 importance,
                                                                  const FrozenRates* rates, __m256& cost,
                                                                  __m256i& neighbour) {
  const __m256i even_source = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kEvenSource));
  const __m256i odd_source = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kOddSource));
  const __m256 sign_bit = _mm256_set1_ps(-0.0f);
  const __m256 sign = _mm256_and_ps(target, sign_bit);
  const __m256 size = _mm256_andnot_ps(sign_bit, target);
  // Lanes alternate between even and odd states.
  __m256 even_level = nearest_lanes(size, _mm256_setr_ps(4, 3, 4, 3, 4, 3, 4, 3));
  __m256 odd_level = nearest_lanes(size, _mm256_setr_ps(2, 1, 2, 1, 2, 1, 2, 1));
  __m256 even = _mm256_add_ps(cost, weighted_square(_mm256_sub_ps(size, even_level), importance));
  __m256 odd = _mm256_add_ps(cost, weighted_square(_mm256_sub_ps(size, odd_level), importance));
  __m256 at_zero = _mm256_add_ps(cost, weighted_square(size, importance));
  if (rates != nullptr) {
    const __m256i negative = _mm256_srai_epi32(_mm256_castps_si256(sign), 31);
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i context = _mm256_add_epi32(_mm256_slli_epi32(neighbour, 3), lanes);
    const __m256i signed_context = _mm256_add_epi32(context, _mm256_and_si256(negative, _mm256_set1_epi32(24)));
    const __m256i table = _mm256_and_si256(negative, _mm256_set1_epi32(FrozenRates::kMagnitudes));
    const __m256 nonzero = _mm256_i32gather_ps(rates->nonzero[0][0], signed_context, 4);
    even = _mm256_add_ps(even, _mm256_add_ps(nonzero, magnitude_rates(*rates, even_level, table)));
    odd = _mm256_add_ps(odd, _mm256_add_ps(nonzero, magnitude_rates(*rates, odd_level, table)));
    at_zero = _mm256_add_ps(at_zero, _mm256_i32gather_ps(rates->zero[0], context, 4));
  }
  even_level = _mm256_or_ps(even_level, sign);
  odd_level = _mm256_or_ps(odd_level, sign);
  const __m256 zero = _mm256_cmp_ps(at_zero, even, _CMP_LT_OQ);
  even = _mm256_min_ps(at_zero, even);
  even_level = _mm256_andnot_ps(zero, even_level);

  const __m256 by_even = _mm256_permutevar8x32_ps(even, even_source);
  const __m256 by_odd = _mm256_permutevar8x32_ps(odd, odd_source);
  const __m256 takes_odd = _mm256_cmp_ps(by_odd, by_even, _CMP_LT_OQ);
  const __m256 level = _mm256_blendv_ps(_mm256_permutevar8x32_ps(even_level, even_source),
                                        _mm256_permutevar8x32_ps(odd_level, odd_source), takes_odd);
  cost = _mm256_min_ps(by_odd, by_even);
  const __m256i below = _mm256_castps_si256(_mm256_cmp_ps(level, _mm256_setzero_ps(), _CMP_LT_OQ));
  const __m256i above = _mm256_castps_si256(_mm256_cmp_ps(level, _mm256_setzero_ps(), _CMP_GT_OQ));
  neighbour = _mm256_or_si256(_mm256_and_si256(below, _mm256_set1_epi32(1)),
                              _mm256_and_si256(above, _mm256_set1_epi32(2)));
  return {_mm256_blendv_epi8(even_source, odd_source, _mm256_castps_si256(takes_odd)), level};
}

#endif

}  // namespace netpress
