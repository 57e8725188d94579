// The inner loop of the encoder for tensors without temporal base, history and bounding codebook. Equal to binarise()
// for every weight, but with the coder in registers and no context computed twice.
#pragma once

#include <cstdint>

#include "coder/arithmetic_encoder.h"
#include "coder/contexts.h"

namespace netpress {

// Codes `count` integers; `n` is where the run starts and, afterwards, where it ends. The unary length is at least 1.
// Two versions with equal results; kEncoderKernels has the one to use.
void encode_run_scalar(ArithmeticEncoder& coder, Context* contexts, const ContextLayout& layout, bool dependent,
                       const int32_t* levels, int64_t count, Neighbourhood& n);

#if defined(__x86_64__)
void encode_run_bmi2(ArithmeticEncoder& coder, Context* contexts, const ContextLayout& layout, bool dependent,
                     const int32_t* levels, int64_t count, Neighbourhood& n);
#endif

}  // namespace netpress
