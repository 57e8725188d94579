#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <cmath>

#include "base/processor.h"
#include "search/distortion_search.h"

namespace netpress {

// Lanes are destination states 0..3 (reached from even states) and 4..7 (from odd states).
NETPRESS_AVX2 void distortion_forward_avx2(const float* weights, int64_t count, double reciprocal, double* cost,
                                           uint16_t* decisions) {
  __m256d low = _mm256_loadu_pd(cost);
  __m256d high = _mm256_loadu_pd(cost + 4);
  // Distance from the first candidate to the candidate of class 0..3, by the class of the first candidate.
  alignas(32) static const double kOffsets[4][4] = {{0, 1, 2, 3}, {3, 0, 1, 2}, {2, 3, 0, 1}, {1, 2, 3, 0}};
  for (int64_t i = 0; i < count; ++i) {
    const double original = std::fabs(reciprocal * weights[i]);  // no branch on the sign
    const int64_t first = std::max<int64_t>(1, static_cast<int64_t>(original) - 1);
    const __m256d candidates =
        _mm256_add_pd(_mm256_set1_pd(static_cast<double>(first)), _mm256_load_pd(kOffsets[first & 3]));
    const __m256d error = _mm256_sub_pd(_mm256_set1_pd(original), candidates);
    const __m256d d = _mm256_mul_pd(error, error);
    const __m256d zero = _mm256_set1_pd(original * original);

    const __m256d d0022 = _mm256_permute4x64_pd(d, 0xA0);
    const __m256d d1133 = _mm256_permute4x64_pd(d, 0xF5);
    const __m256d dzz00 = _mm256_blend_pd(zero, _mm256_permute4x64_pd(d, 0x00), 0xC);
    const __m256d d33zz = _mm256_blend_pd(_mm256_permute4x64_pd(d, 0xFF), zero, 0xC);
    const __m256d dzz11 = _mm256_blend_pd(zero, _mm256_permute4x64_pd(d, 0x55), 0xC);
    const __m256d d22zz = _mm256_blend_pd(_mm256_permute4x64_pd(d, 0xAA), zero, 0xC);

    // Sources: (0,2,0,2), (0,2,4,6), (4,6,4,6) and (3,1,3,1), (7,5,3,1), (7,5,7,5).
    const __m256d even_low = _mm256_permute4x64_pd(low, 0x88);
    const __m256d even_high = _mm256_permute4x64_pd(high, 0x88);
    const __m256d odd_low = _mm256_permute4x64_pd(low, 0x77);
    const __m256d odd_high = _mm256_permute4x64_pd(high, 0x77);

    const __m256d a0 = _mm256_add_pd(even_low, d0022);
    const __m256d a1 = _mm256_add_pd(_mm256_blend_pd(even_low, even_high, 0xC), dzz00);
    const __m256d a2 = _mm256_add_pd(even_high, d22zz);
    const __m256d b0 = _mm256_add_pd(odd_low, d1133);
    const __m256d b1 = _mm256_add_pd(_mm256_blend_pd(odd_high, odd_low, 0xC), d33zz);
    const __m256d b2 = _mm256_add_pd(odd_high, dzz11);

    const __m256d a01 = _mm256_min_pd(a1, a0);
    const __m256d b01 = _mm256_min_pd(b1, b0);
    const unsigned second = static_cast<unsigned>(_mm256_movemask_pd(_mm256_cmp_pd(a1, a0, _CMP_LT_OQ))) |
                            static_cast<unsigned>(_mm256_movemask_pd(_mm256_cmp_pd(b1, b0, _CMP_LT_OQ))) << 4;
    const unsigned third = static_cast<unsigned>(_mm256_movemask_pd(_mm256_cmp_pd(a2, a01, _CMP_LT_OQ))) |
                           static_cast<unsigned>(_mm256_movemask_pd(_mm256_cmp_pd(b2, b01, _CMP_LT_OQ))) << 4;
    low = _mm256_min_pd(a2, a01);
    high = _mm256_min_pd(b2, b01);
    decisions[i] = static_cast<uint16_t>(second | third << 8);
  }
  _mm256_storeu_pd(cost, low);
  _mm256_storeu_pd(cost + 4, high);
}

}  // namespace netpress

#endif
