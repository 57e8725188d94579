// Forward pass of the trellis search with NNCodec's rate term. Three versions with equal results: the definition,
// which keeps a rate model per state as a whole, one that moves little more than what differs between states, and that
// in vector registers. kEncoderKernels has the one to use.
#pragma once

#include <cmath>
#include <cstdint>

#include "search/trellis_branches.h"

namespace netpress {

struct RateSearch {
  double reciprocal;        // of the step size
  double distortion_scale;  // of squared errors in steps, to 1/32768 bit
  int unary_length;         // of the rate model; may be 0
};

// Distortion and integer of the candidates of a weight, by class.
struct RateCandidates {
  double distortion[5];
  int32_t coded[5];
};

inline RateCandidates rate_candidates(float weight, const RateSearch& search) {
  RateCandidates c;
  const bool negative = weight < 0;
  const double original = std::fabs(search.reciprocal * weight);
  const int64_t first = first_candidate(original);
  for (int kind = 0; kind < 4; ++kind) {
    const int64_t level = candidate(first, kind);
    const double error = original - static_cast<double>(level);
    const int32_t coded = static_cast<int32_t>((level + 1) >> 1);
    c.distortion[kind] = search.distortion_scale * (error * error);
    c.coded[kind] = negative ? -coded : coded;
  }
  c.distortion[kZeroKind] = search.distortion_scale * (original * original);
  c.coded[kZeroKind] = 0;
  return c;
}

// The branch of kBranches that a state is reached by where no branch has a cost that a double can hold; stands for the
// integer 0 out of state 0.
inline constexpr unsigned kNoBranch = 3;

// `cost` holds the costs of the eight states before and after. Two bits per state and weight tell the branch taken:
// bits t and 8 + t for state t. All levels have to fit 32 bits.
void nncodec_rate_forward_scalar(const float* weights, int64_t count, const RateSearch& search, double* cost,
                                 uint16_t* decisions);
void nncodec_rate_forward_definition(const float* weights, int64_t count, const RateSearch& search, double* cost,
                                     uint16_t* decisions);

#if defined(__x86_64__)
void nncodec_rate_forward_avx2(const float* weights, int64_t count, const RateSearch& search, double* cost,
                               uint16_t* decisions);
#endif

}  // namespace netpress
