// Forward pass of the rate-distortion trellis search: eight single-precision costs, frozen rates. Two versions with
// equal results, chosen at run time.
#pragma once

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

struct RdDecision {
  uint8_t zero;  // bit s: from state s, zero beats the other integer of even parity
  uint8_t odd;   // bit t: state t is better reached by an integer of odd parity
};

// `cost` holds the costs of the eight states before and after; weights are scaled by `reciprocal`.
void rd_forward(const float* weights, int64_t count, double reciprocal, const FrozenRates& rates, float* cost,
                RdDecision* decisions);

void rd_forward_plain(const float* weights, int64_t count, double reciprocal, const FrozenRates& rates, float* cost,
                      RdDecision* decisions);

#if defined(__x86_64__)
void rd_forward_avx2(const float* weights, int64_t count, double reciprocal, const FrozenRates& rates, float* cost,
                     RdDecision* decisions);
#endif

}  // namespace netpress
