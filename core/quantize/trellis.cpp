#include <cfloat>
#include <cmath>
#include <vector>

#include "quantize/dequantize.h"
#include "quantize/fallback.h"
#include "quantize/quantizers.h"
#include "quantize/scan_ordered.h"
#include "search/encoder_kernels.h"
#include "search/trellis_branches.h"

namespace netpress {

namespace {

struct Scale {
  explicit Scale(const QuantizerSettings& settings, int64_t qp) {
    const double step = static_cast<float>(step_size(qp, settings.qp_density));
    reciprocal = 1.0 / step;
    reciprocal_single = static_cast<float>(reciprocal);
  }
  // Whether all levels fit 32 bits: rounded, weights are at most 2147483645 and at least -2147483646 steps.
  bool fits(const float* weights, int64_t count) const {
    bool all = true;
    for (int64_t i = 0; i < count; ++i) {
      const double scaled = static_cast<double>(weights[i] * reciprocal_single);
      all &= scaled < 2147483645.5 && scaled > -2147483646.5;
    }
    return all;
  }

  double reciprocal;
  float reciprocal_single;
};

void start_costs(double* cost) {
  cost[0] = 0;
  std::fill(cost + 1, cost + 8, 0.5 * DBL_MAX);
}

unsigned cheapest_state(const double* cost) {
  unsigned best = 0;
  for (unsigned t = 1; t < 8; ++t) {
    if (cost[t] < cost[best]) best = t;
  }
  return best;
}

// Without a rate term: costs in registers, two bits of decision per state and weight.
bool search_distortion(const float* weights, int32_t* levels, int64_t count, const Scale& scale) {
  if (!scale.fits(weights, count)) return false;
  std::vector<uint16_t> decisions(static_cast<size_t>(count));
  double cost[8];
  start_costs(cost);
  kEncoderKernels.distortion_forward(weights, count, scale.reciprocal, cost, decisions.data());
  trace_back(weights, levels, count, scale.reciprocal, cheapest_state(cost), [&](int64_t i, unsigned state) {
    const unsigned taken = decisions[static_cast<size_t>(i)] >> state;
    const unsigned third = taken >> 8 & 1;
    return kBranches[state][2 * third + (taken & ~third & 1)];
  });
  return true;
}

// With the rate of NNCodec's models.
bool search_rate_distortion(const float* weights, int32_t* levels, int64_t count, const Scale& scale,
                            const QuantizerSettings& settings) {
  if (!scale.fits(weights, count)) return false;
  const double lambda = ((static_cast<double>(settings.lambda_scale) * 4) * (std::log(2.0) / 6.0)) * 0.7;
  std::vector<uint16_t> decisions(static_cast<size_t>(count));
  double cost[8];
  start_costs(cost);
  const RateSearch search{scale.reciprocal, 32768.0 / lambda, settings.nncodec_rate_length()};
  kEncoderKernels.nncodec_rate_forward(weights, count, search, cost, decisions.data());
  trace_back(weights, levels, count, scale.reciprocal, cheapest_state(cost), [&](int64_t i, unsigned state) {
    const unsigned bits = decisions[static_cast<size_t>(i)] >> state;
    const unsigned taken = (bits & 1) | (bits >> 7 & 2);
    return taken == kNoBranch ? Branch{0, kZeroKind} : kBranches[state][taken];
  });
  return true;
}

}  // namespace

int64_t quantize_trellis(const float* weights, int32_t* levels, const QuantizerSettings& settings, int64_t qp) {
  const ScanOrdered ordered(weights, settings.geometry);
  const int64_t count = settings.geometry.size();
  const int64_t used = quantize_with_fallback(weights, settings, qp, [&](int64_t attempt) {
    const Scale scale(settings, attempt);
    return settings.lambda_scale > 0 ? search_rate_distortion(ordered.data(), levels, count, scale, settings)
                                     : search_distortion(ordered.data(), levels, count, scale);
  });
  ordered.restore(levels);
  return used;
}

}  // namespace netpress
