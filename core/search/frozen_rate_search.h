// Forward pass of the rate-distortion trellis search: eight single-precision costs, frozen rates. Two versions with
// equal results; kEncoderKernels has the one to use.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace netpress {

// What an integer costs, in units of squared steps (bits times lambda). The neighbour class is that of the coded
// integer before: 0 zero, 1 negative, 2 positive.
struct FrozenRates {
  static constexpr int kMagnitudes = 256;
  float zero[3][8];             // by neighbour class and state
  float nonzero[2][3][8];       // by sign (1 negative), neighbour class and state: significance and sign
  float magnitude[2][kMagnitudes];  // by sign and magnitude, from 1; larger ones cost as much as the last
};

struct FrozenRateDecision {
  uint8_t zero;  // bit s: from state s, zero beats the other integer of even parity
  uint8_t odd;   // bit t: state t is better reached by an integer of odd parity
};

// What both versions begin with.
inline constexpr int64_t kRebase = 64;  // weights after which the smallest cost is taken off all costs

// Distortion and magnitude rate of the four candidate levels around a weight, by level modulo 4.
struct FrozenRateCandidates {
  float cost[4];
  float zero;
  int negative;
};

inline FrozenRateCandidates frozen_rate_candidates(float weight, double reciprocal, const FrozenRates& rates) {
  FrozenRateCandidates c;
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

// `cost` holds the costs of the eight states before and after; weights are scaled by `reciprocal`.
void frozen_rate_forward_scalar(const float* weights, int64_t count, double reciprocal, const FrozenRates& rates,
                                float* cost, FrozenRateDecision* decisions);

#if defined(__x86_64__)
void frozen_rate_forward_avx2(const float* weights, int64_t count, double reciprocal, const FrozenRates& rates,
                              float* cost, FrozenRateDecision* decisions);
#endif

}  // namespace netpress
