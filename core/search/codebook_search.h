// Encoder search that belongs to codebooks.
#pragma once

#include <cstdint>

#include "coder/scan.h"

namespace netpress {

// The zero offset whose profile-0 payload of `index - offset` is shortest, as NNCodec finds it (one trial per entry).
// `unary_length` is that of the coding; NNCodec measures with one less from version 2 on.
int64_t codebook_zero_offset(const int32_t* indexes, const Geometry& geometry, int64_t codebook_size, int unary_length,
                             bool first_edition_1_0);

}  // namespace netpress
