// Quantisers: real weights to integer levels. All of them visit the weights in scan order. They throw Failure.
#pragma once

#include <cstdint>

#include "coder/scan.h"

namespace netpress {

struct QuantizerSettings {
  Geometry geometry;
  int qp_density = 2;
  float lambda_scale = 0;   // weight of the rate; 0 switches the rate term off
  int unary_length = 11;    // of the coding whose rate is modelled

  // NNCodec's model of the rate has a unary length of one less than its coding, so that 0 occurs.
  int nncodec_rate_length() const { return unary_length - 1; }
};

// Independent quantisation. Fills `levels` and returns the qp used, which is higher than `qp` where the levels would
// have left 32 bits. Throws kLevelOutOfRange if no qp helps.
int64_t quantize_uniform(const float* weights, int32_t* levels, const QuantizerSettings& settings, int64_t qp);

// Dependent quantisation by an 8-state trellis search; the levels lie on a path of the machine. As above.
int64_t quantize_trellis(const float* weights, int32_t* levels, const QuantizerSettings& settings, int64_t qp);

// The price of a bit in squared steps for a search that follows the one without rate, whose levels are given:
// `lambda_scale` 1 is the slope of the rate-distortion curve there. 0 where all levels near a weight cost the same.
double rate_price(const float* weights, const int32_t* levels, int64_t count, double reciprocal, double lambda_scale);

// Dependent quantisation with a rate term: the bins that the coder will code at this unary length, with their
// statistics from the pass before. `passes` >= 1 searches follow the one without rate, at its rate_price().
// Not what NNCodec decides; quantize_trellis() is.
int64_t quantize_rd(const float* weights, int32_t* levels, const QuantizerSettings& settings, int64_t qp, int passes);

}  // namespace netpress
