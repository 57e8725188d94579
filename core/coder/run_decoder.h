// The inner loop of the decoder for tensors without temporal base, history and bounding codebook. Equal to debinarise()
// for every weight, but with the coder in registers and no context computed twice.
#pragma once

#include <cstdint>

#include "base/processor.h"
#include "coder/arithmetic_decoder.h"
#include "coder/contexts.h"

namespace netpress {

// The part of a magnitude above the unary length. Source: ISO/IEC 15938-17, binarisation of quantised weights.
NETPRESS_INLINE int64_t decode_remainder(ArithmeticDecoder& coder, Context* prefix) {
  int k = 0;
  while (coder.bin(prefix[k])) {
    if (++k >= kPrefixCount) {
      coder.fail(Status::kValueOutOfRange);
      return 0;
    }
  }
  return ((int64_t{1} << k) - 1) + coder.bypass(k);
}

// Decodes `count` integers; `n` is where the run starts and, afterwards, where it ends. The unary length is at least 1.
// A failure ends the run before its end. Two versions with equal results; kDecoderKernels has the one to use.
void decode_run_scalar(ArithmeticDecoder& coder, Context* contexts, const ContextLayout& layout, bool dependent,
                       int32_t* levels, int64_t count, Neighbourhood& n);

#if defined(__x86_64__)
void decode_run_bmi2(ArithmeticDecoder& coder, Context* contexts, const ContextLayout& layout, bool dependent,
                     int32_t* levels, int64_t count, Neighbourhood& n);
#endif

}  // namespace netpress
