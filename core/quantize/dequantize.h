// Integer levels to real values: the decoder's half of quantisation. Source: ISO/IEC 15938-17, dequantisation of
// tensors.
#pragma once

#include <cstdint>

#include "base/status.h"

namespace netpress {

// Step size of a qp, in double precision. Source: ISO/IEC 15938-17, quantisation step size.
double step_size(int64_t qp, int qp_density);

// value = f32(level) * f32(step); `values` may be the memory of `levels`.
void dequantize_uniform(const int32_t* levels, void* values, int64_t count, float step);

// value = f32(codebook[index] * step); `indexes` count from the first entry. kIndexOutOfRange where there is no
// such entry.
[[nodiscard]] Status dequantize_codebook(const int32_t* indexes, void* values, int64_t count, const int32_t* codebook,
                                       int64_t codebook_size, int64_t zero_offset, double step);

}  // namespace netpress
