// Estimators in vector registers: 16-bit lanes hold fast states times 256 and slow states times 16. With these scales
// bits 11 and up of either are the index into the step curve, and bits 7 and up add to the index of the cost.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>

#include <array>
#include <cstdint>

#include "base/processor.h"
#include "coder/probability.h"

namespace netpress {

// The falling half of the step curve, above the constant that follows it, in units of 16.
alignas(16) inline constexpr std::array<uint8_t, 16> kFallingSteps = [] {
  std::array<uint8_t, 16> steps{};
  for (size_t i = 0; i < 16; ++i) steps[i] = static_cast<uint8_t>((kStepCurve[i] - kStepCurve[16]) >> 4);
  return steps;
}();

// What turns units of the step curve into those of a lane, and the bits of a lane that exist.
constexpr uint16_t fast_factor(int set) { return static_cast<uint16_t>(256 >> (kEstimatorSets[set].fast_shift - 4)); }
constexpr uint16_t slow_factor(int set) { return static_cast<uint16_t>(16 >> (kEstimatorSets[set].slow_shift - 4)); }
inline constexpr uint16_t kFastMask = 0xFF00;
inline constexpr uint16_t kSlowMask = 0xFFF0;

// Lanes after a bin; `sign` is 1 in the lanes that see a one, -1 in those that see a zero.
NETPRESS_AVX2 NETPRESS_INLINE __m256i adapted(__m256i state, __m256i sign, __m256i factor, __m256i mask) {
  const __m128i steps = _mm_load_si128(reinterpret_cast<const __m128i*>(kFallingSteps.data()));
  // Moves indexes -16 .. -1 to bytes that a shuffle looks up, others and the upper bytes to such that give 0.
  const __m256i bias = _mm256_set1_epi16(static_cast<int16_t>(0x8080));
  const __m256i last = _mm256_set1_epi16(15);  // index of the final 0 of the curve
  const __m256i constant = _mm256_set1_epi16(kStepCurve[16] >> 4);
  const __m256i at = _mm256_srai_epi16(_mm256_sign_epi16(state, sign), 11);
  const __m256i falling = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(steps), _mm256_add_epi16(at, bias));
  const __m256i step = _mm256_add_epi16(falling, _mm256_andnot_si256(_mm256_cmpeq_epi16(at, last), constant));
  const __m256i scaled = _mm256_and_si256(_mm256_mullo_epi16(step, factor), mask);
  return _mm256_add_epi16(state, _mm256_sign_epi16(scaled, sign));
}

}  // namespace netpress

#endif
