#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>

#include "base/processor.h"
#include "search/frozen_rate_search.h"
#include "search/trellis_branches.h"

namespace netpress {

NETPRESS_AVX2 void frozen_rate_forward_avx2(const float* weights, int64_t count, double reciprocal,
                                            const FrozenRates& rates, float* cost, FrozenRateDecision* decisions) {
  const __m256i even_source = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kEvenSource));
  const __m256i odd_source = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kOddSource));
  __m256 costs = _mm256_loadu_ps(cost);
  // Lanes whose neighbour is not zero, and its sign; the sign is that of the weight before, so equal in all lanes.
  __m256 neighbour_nonzero = _mm256_setzero_ps();
  int neighbour_class = 1;
  const __m256 zero_after_zero = _mm256_loadu_ps(rates.zero[0]);
  for (int64_t i = 0; i < count; ++i) {
    const FrozenRateCandidates c = frozen_rate_candidates(weights[i], reciprocal, rates);
    const __m128 four = _mm_loadu_ps(c.cost);
    const __m256 by_class = _mm256_broadcast_ps(&four);
    // Lanes alternate between even and odd states.
    const __m256 even_candidate = _mm256_permutevar_ps(by_class, _mm256_setr_epi32(0, 3, 0, 3, 0, 3, 0, 3));
    const __m256 odd_candidate = _mm256_permutevar_ps(by_class, _mm256_setr_epi32(2, 1, 2, 1, 2, 1, 2, 1));
    const __m256 zero_rate =
        _mm256_blendv_ps(zero_after_zero, _mm256_loadu_ps(rates.zero[neighbour_class]), neighbour_nonzero);
    const __m256 nonzero_rate =
        _mm256_blendv_ps(_mm256_loadu_ps(rates.nonzero[c.negative][0]),
                         _mm256_loadu_ps(rates.nonzero[c.negative][neighbour_class]), neighbour_nonzero);
    const __m256 nonzero = _mm256_add_ps(costs, nonzero_rate);
    const __m256 at_zero = _mm256_add_ps(_mm256_add_ps(costs, zero_rate), _mm256_set1_ps(c.zero));
    const __m256 even = _mm256_add_ps(nonzero, even_candidate);
    const __m256 odd = _mm256_add_ps(nonzero, odd_candidate);
    const __m256 takes_zero = _mm256_cmp_ps(at_zero, even, _CMP_LT_OQ);
    const __m256 by_even = _mm256_permutevar8x32_ps(_mm256_min_ps(at_zero, even), even_source);
    const __m256 by_odd = _mm256_permutevar8x32_ps(odd, odd_source);
    const __m256 takes_odd = _mm256_cmp_ps(by_odd, by_even, _CMP_LT_OQ);
    costs = _mm256_min_ps(by_odd, by_even);
    const __m256 reached_by_zero = _mm256_permutevar8x32_ps(takes_zero, even_source);
    const __m256 all = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
    neighbour_nonzero = _mm256_or_ps(takes_odd, _mm256_andnot_ps(reached_by_zero, all));
    neighbour_class = c.negative ? 1 : 2;
    decisions[i] = {static_cast<uint8_t>(_mm256_movemask_ps(takes_zero)),
                    static_cast<uint8_t>(_mm256_movemask_ps(takes_odd))};
    if (i % kRebase == kRebase - 1) {
      alignas(32) float lanes[8];
      _mm256_store_ps(lanes, costs);
      costs = _mm256_sub_ps(costs, _mm256_set1_ps(*std::min_element(lanes, lanes + 8)));
    }
  }
  _mm256_storeu_ps(cost, costs);
}

}  // namespace netpress

#endif
