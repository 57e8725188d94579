// Forward pass of the trellis search with NNCodec's rate term. Two versions with equal results: one that keeps a rate
// model per state as a whole, and one that keeps only what differs between them.
#pragma once

#include <cstdint>

namespace netpress {

struct RateSearch {
  double reciprocal;        // of the step size
  double distortion_scale;  // of squared errors in steps, to 1/32768 bit
  int unary_length;         // of the rate model; may be 0
};

// The branch of kBranches that a state is reached by where no branch has a cost that a double can hold; stands for the
// integer 0 out of state 0.
inline constexpr unsigned kNoBranch = 3;

// `cost` holds the costs of the eight states before and after. Two bits per state and weight tell the branch taken: those
// of state t are bits 2 t and up. All levels have to fit 32 bits.
void rate_forward(const float* weights, int64_t count, const RateSearch& search, double* cost, uint16_t* decisions);

void rate_forward_plain(const float* weights, int64_t count, const RateSearch& search, double* cost,
                        uint16_t* decisions);

}  // namespace netpress
