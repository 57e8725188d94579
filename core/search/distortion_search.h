// Forward pass of the trellis search without a rate term. Two versions with equal results; kEncoderKernels has the one
// to use.
#pragma once

#include <cstdint>

namespace netpress {

// `cost` holds the costs of the eight states before and after. Bit t of decisions[i] is set where state t was better
// reached by its second branch than by its first, bit 8 + t where the third branch is the best of all.
void distortion_forward_scalar(const float* weights, int64_t count, double reciprocal, double* cost,
                               uint16_t* decisions);

#if defined(__x86_64__)
void distortion_forward_avx2(const float* weights, int64_t count, double reciprocal, double* cost, uint16_t* decisions);
#endif

}  // namespace netpress
