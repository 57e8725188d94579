// Trellis quantisation with the rate that the coder will really see: first without a rate, then with the bin statistics
// of the result frozen, as often as asked for.
#include <algorithm>
#include <cmath>
#include <vector>

#include "coder/contexts.h"
#include "quantize/dequantize.h"
#include "quantize/quantizers.h"
#include "quantize/scan_ordered.h"
#include "search/encoder_kernels.h"
#include "search/frozen_rates.h"
#include "search/trellis_branches.h"

namespace netpress {

namespace {

// Class of the candidate that leaves an even and an odd state with an integer of even and of odd parity.
constexpr uint8_t kKinds[2][2] = {{0, 2}, {3, 1}};

constexpr float kUnreachable = 1e30f;

// Where levels are this large on average, neighbouring ones cost the same.
constexpr double kFineLevels = 128;

// What the search without a rate leaves: the mean magnitude of all levels, and the mean squared error, in squared
// steps, of the weights that are not zero. Those that are have no error and, with a rate or without, the level 0.
struct Quality {
  double magnitude = 0;
  double noise = 0;
};

Quality measure(const float* weights, const int32_t* levels, int64_t count, double reciprocal) {
  double magnitude = 0;
  double noise = 0;
  int64_t some = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double level = static_cast<double>(levels[i]);
    const double error = reciprocal * static_cast<double>(weights[i]) - level;
    magnitude += std::fabs(level);
    noise += error * error;
    some += weights[i] != 0;
  }
  return {magnitude / static_cast<double>(count), noise / static_cast<double>(std::max<int64_t>(some, 1))};
}

void search(const float* weights, int32_t* levels, int64_t count, double reciprocal, const FrozenRates& rates,
            std::vector<FrozenRateDecision>& decisions) {
  float cost[8];
  std::fill(cost, cost + 8, kUnreachable);
  cost[0] = 0;
  kEncoderKernels.frozen_rate_forward(weights, count, reciprocal, rates, cost, decisions.data());
  const unsigned last = static_cast<unsigned>(std::min_element(cost, cost + 8) - cost);
  trace_back(weights, levels, count, reciprocal, last, [&](int64_t i, unsigned state) {
    const FrozenRateDecision decision = decisions[static_cast<size_t>(i)];
    const unsigned odd = decision.odd >> state & 1;
    const uint8_t source = static_cast<uint8_t>(odd ? kOddSource[state] : kEvenSource[state]);
    const unsigned zero = decision.zero >> source & ~odd & 1;
    return Branch{source, zero ? kZeroKind : kKinds[source & 1][odd]};
  });
}

}  // namespace

double rate_price(const float* weights, const int32_t* levels, int64_t count, double reciprocal, double lambda_scale) {
  if (lambda_scale <= 0 || count == 0) return 0;
  const Quality quality = measure(weights, levels, count, reciprocal);
  if (quality.magnitude > kFineLevels) return 0;
  // The slope of a curve whose error falls by a factor of 4 per bit, at the error that the steps leave.
  return lambda_scale * 2 * std::log(2.0) * quality.noise;
}

int64_t quantize_rd(const float* weights, int32_t* levels, const QuantizerSettings& settings, int64_t qp,
                    int passes) {
  QuantizerSettings without_rate = settings;
  without_rate.lambda_scale = 0;
  const int64_t used = quantize_trellis(weights, levels, without_rate, qp);
  const int64_t count = settings.geometry.size();
  const double reciprocal = 1.0 / static_cast<double>(static_cast<float>(step_size(used, settings.qp_density)));
  const double lambda = rate_price(weights, levels, count, reciprocal, static_cast<double>(settings.lambda_scale));
  if (!(lambda > 0)) return used;
  const ContextLayout layout(settings.unary_length);
  const ScanOrdered ordered(weights, settings.geometry);
  std::vector<FrozenRateDecision> decisions(static_cast<size_t>(count));
  ordered.arrange(levels);
  for (int pass = 0; pass < passes; ++pass) {
    const FrozenRates rates = freeze(count_bins(levels, count, layout, true), layout, lambda);
    search(ordered.data(), levels, count, reciprocal, rates, decisions);
  }
  ordered.restore(levels);
  return used;
}

}  // namespace netpress
