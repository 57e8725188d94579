#include "search/frozen_rate_search.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "coder/trellis.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace netpress {

namespace {

constexpr int64_t kRebase = 64;  // weights after which the smallest cost is taken off all costs

// Distortion and magnitude rate of the four candidate levels around a weight, by level modulo 4.
struct Candidates {
  float cost[4];
  float zero;
  int negative;
};

inline Candidates candidates_of(float weight, double reciprocal, const FrozenRates& rates) {
  Candidates c;
  c.negative = weight < 0;
  const double original = std::fabs(reciprocal * weight);
  const int64_t first = std::max<int64_t>(1, static_cast<int64_t>(original) - 1);
  for (int kind = 0; kind < 4; ++kind) {
    const int64_t level = first + ((kind - first) & 3);
    const float error = static_cast<float>(original - static_cast<double>(level));
    const int64_t magnitude = std::min<int64_t>((level + 1) >> 1, FrozenRates::kMagnitudes - 1);
    c.cost[kind] = error * error + rates.magnitude[c.negative][magnitude];
  }
  const float all = static_cast<float>(original);
  c.zero = all * all;
  return c;
}

}  // namespace

void rd_forward_plain(const float* weights, int64_t count, double reciprocal, const FrozenRates& rates, float* cost,
                      RdDecision* decisions) {
  int neighbour[8] = {};
  for (int64_t i = 0; i < count; ++i) {
    const Candidates c = candidates_of(weights[i], reciprocal, rates);
    float even[8];
    float odd[8];
    unsigned zero_bits = 0;
    for (int s = 0; s < 8; ++s) {
      const float nonzero = cost[s] + rates.nonzero[c.negative][neighbour[s]][s];
      const float at_zero = (cost[s] + rates.zero[neighbour[s]][s]) + c.zero;
      // Even states have the levels 0 and 2 modulo 4, odd ones 3 and 1; the first of each pair has even parity.
      even[s] = nonzero + c.cost[s & 1 ? 3 : 0];
      odd[s] = nonzero + c.cost[s & 1 ? 1 : 2];
      if (at_zero < even[s]) {
        even[s] = at_zero;
        zero_bits |= 1u << s;
      }
    }
    unsigned odd_bits = 0;
    const int sign_class = c.negative ? 1 : 2;
    for (int t = 0; t < 8; ++t) {
      const float by_even = even[kEvenSource[t]];
      const float by_odd = odd[kOddSource[t]];
      const bool takes_odd = by_odd < by_even;
      cost[t] = takes_odd ? by_odd : by_even;
      odd_bits |= static_cast<unsigned>(takes_odd) << t;
      neighbour[t] = takes_odd || !(zero_bits >> kEvenSource[t] & 1) ? sign_class : 0;
    }
    decisions[i] = {static_cast<uint8_t>(zero_bits), static_cast<uint8_t>(odd_bits)};
    if (i % kRebase == kRebase - 1) {
      const float least = *std::min_element(cost, cost + 8);
      for (int t = 0; t < 8; ++t) cost[t] -= least;
    }
  }
}

#if defined(__x86_64__)

__attribute__((target("avx2"))) void rd_forward_avx2(const float* weights, int64_t count, double reciprocal,
                                                     const FrozenRates& rates, float* cost, RdDecision* decisions) {
  const __m256i even_source = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kEvenSource));
  const __m256i odd_source = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kOddSource));
  __m256 costs = _mm256_loadu_ps(cost);
  // Lanes whose neighbour is not zero, and its sign; the sign is that of the weight before, so equal in all lanes.
  __m256 neighbour_nonzero = _mm256_setzero_ps();
  int neighbour_class = 1;
  const __m256 zero_after_zero = _mm256_loadu_ps(rates.zero[0]);
  for (int64_t i = 0; i < count; ++i) {
    const Candidates c = candidates_of(weights[i], reciprocal, rates);
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

void rd_forward(const float* weights, int64_t count, double reciprocal, const FrozenRates& rates, float* cost,
                RdDecision* decisions) {
  static const bool has_avx2 = __builtin_cpu_supports("avx2");
  if (has_avx2) {
    rd_forward_avx2(weights, count, reciprocal, rates, cost, decisions);
  } else {
    rd_forward_plain(weights, count, reciprocal, rates, cost, decisions);
  }
}

#else

void rd_forward(const float* weights, int64_t count, double reciprocal, const FrozenRates& rates, float* cost,
                RdDecision* decisions) {
  rd_forward_plain(weights, count, reciprocal, rates, cost, decisions);
}

#endif

}  // namespace netpress
