// Quantisers: real weights to integer levels, and back. All of them visit the weights in scan order.
#pragma once

#include <cstdint>

#include "coder/scan.h"
#include "base/status.h"

namespace netpress {

struct QuantizerSettings {
  Geometry geometry;
  int qp_density = 2;
  float lambda_scale = 0;   // weight of the rate; 0 switches the rate term off
  int rate_unary_length = 10;  // unary length of the rate model
};

// Step size of a qp, in double precision. Source: 9.1 of the entropy coding text.
double step_size(int64_t qp, int qp_density);

// Independent quantisation. Fills `levels` and returns the qp used, which is higher than `qp` where the levels would
// have left 32 bits. Throws kLevelOutOfRange if no qp helps.
int64_t quantize_uniform(const float* weights, int32_t* levels, const QuantizerSettings& settings, int64_t qp);

// Dependent quantisation by an 8-state trellis search; the levels lie on a path of the machine. As above.
int64_t quantize_trellis(const float* weights, int32_t* levels, const QuantizerSettings& settings, int64_t qp);

// Dependent quantisation with a rate term: the bins that the coder will code at this unary length, with their
// statistics from the pass before. `passes` >= 1 searches follow the one without rate. `settings.lambda_scale` 1 is the
// slope of the rate-distortion curve at the error of the search without rate. Not what NNCodec decides;
// quantize_trellis() is.
int64_t quantize_rd(const float* weights, int32_t* levels, const QuantizerSettings& settings, int64_t qp,
                    int unary_length, int passes);

// value = f32(level) * f32(step); `values` may be the memory of `levels`.
void dequantize_uniform(const int32_t* levels, void* values, int64_t count, float step);

// value = f32(codebook[index] * step); `indexes` count from the first entry. Throws kIndexOutOfRange.
void dequantize_codebook(const int32_t* indexes, void* values, int64_t count, const int32_t* codebook,
                         int64_t codebook_size, int64_t zero_offset, double step);

}  // namespace netpress
