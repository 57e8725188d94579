#if defined(__x86_64__)
#include <immintrin.h>

#include "base/processor.h"
#include "search/feedback_search.h"
#include "search/trellis_branches.h"

namespace netpress {

namespace {

NETPRESS_AVX2 NETPRESS_INLINE __m256 nearest(__m256 size, __m256 first) {
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

}  // namespace

NETPRESS_AVX2 void feedback_step_avx2(FeedbackSurvivors& survivors, int index, const FeedbackPosition& at,
                                      const FrozenRates* rates) {
  const __m256i even_source = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kEvenSource));
  const __m256i odd_source = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kOddSource));
  const __m256 sign_bit = _mm256_set1_ps(-0.0f);
  const __m256 importance = _mm256_set1_ps(at.importance);
  const __m256 costs = _mm256_load_ps(survivors.cost);

  __m256 target = _mm256_set1_ps(at.base);
  const float* influence = at.influence;
  for (int k = index - at.reach; k < index; ++k) {
    target = _mm256_add_ps(target,
                           _mm256_mul_ps(_mm256_broadcast_ss(influence++), _mm256_load_ps(survivors.errors[k])));
  }
  const __m256 sign = _mm256_and_ps(target, sign_bit);
  const __m256 size = _mm256_andnot_ps(sign_bit, target);
  // Lanes alternate between even and odd states.
  __m256 even_level = nearest(size, _mm256_setr_ps(4, 3, 4, 3, 4, 3, 4, 3));
  __m256 odd_level = nearest(size, _mm256_setr_ps(2, 1, 2, 1, 2, 1, 2, 1));
  __m256 even = _mm256_add_ps(costs, weighted_square(_mm256_sub_ps(size, even_level), importance));
  __m256 odd = _mm256_add_ps(costs, weighted_square(_mm256_sub_ps(size, odd_level), importance));
  __m256 at_zero = _mm256_add_ps(costs, weighted_square(size, importance));
  if (rates != nullptr) {
    const __m256i negative = _mm256_srai_epi32(_mm256_castps_si256(sign), 31);
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i neighbour = _mm256_load_si256(reinterpret_cast<const __m256i*>(survivors.neighbour));
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
  const __m256i source = _mm256_blendv_epi8(even_source, odd_source, _mm256_castps_si256(takes_odd));
  const __m256 level = _mm256_blendv_ps(_mm256_permutevar8x32_ps(even_level, even_source),
                                        _mm256_permutevar8x32_ps(odd_level, odd_source), takes_odd);
  _mm256_store_si256(reinterpret_cast<__m256i*>(survivors.sources[index]), source);
  _mm256_store_ps(survivors.cost, _mm256_min_ps(by_odd, by_even));
  _mm256_store_ps(survivors.errors[index], _mm256_sub_ps(_mm256_set1_ps(at.weight), level));
  const __m256i below = _mm256_castps_si256(_mm256_cmp_ps(level, _mm256_setzero_ps(), _CMP_LT_OQ));
  const __m256i above = _mm256_castps_si256(_mm256_cmp_ps(level, _mm256_setzero_ps(), _CMP_GT_OQ));
  const __m256i neighbour = _mm256_or_si256(_mm256_and_si256(below, _mm256_set1_epi32(1)),
                                            _mm256_and_si256(above, _mm256_set1_epi32(2)));
  _mm256_store_si256(reinterpret_cast<__m256i*>(survivors.neighbour), neighbour);
  for (int k = 0; k < index; ++k) {
    _mm256_store_ps(survivors.errors[k], _mm256_permutevar8x32_ps(_mm256_load_ps(survivors.errors[k]), source));
  }
}

}  // namespace netpress

#endif
