// The inner loops for tensors without temporal base, history and bounding codebook. Equal to binarise() and
// debinarise() for every weight, but with the coder in registers and no context computed twice.
#pragma once

#include <cstdint>

#include "coder/arithmetic_coder.h"
#include "coder/contexts.h"

namespace netpress {

// The part of a magnitude above the unary length.
inline __attribute__((always_inline)) int64_t decode_remainder(ArithmeticDecoder& coder, Context* prefix) {
  int k = 0;
  while (coder.bin(prefix[k])) {
    if (++k > 30) throw Failure(Status::kValueOutOfRange);
  }
  return ((int64_t{1} << k) - 1) + coder.bypass(k);
}

// Decodes `count` integers; `n` is where the run starts and, afterwards, where it ends. The unary length is at least 1.
void decode_plain(ArithmeticDecoder& coder, Context* contexts, const ContextLayout& layout, bool dependent,
                  int32_t* levels, int64_t count, Neighbourhood& n);

// Codes `count` integers likewise.
void encode_plain(ArithmeticEncoder& coder, Context* contexts, const ContextLayout& layout, bool dependent,
                  const int32_t* levels, int64_t count, Neighbourhood& n);

}  // namespace netpress
