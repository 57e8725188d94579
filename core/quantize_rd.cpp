// Trellis quantisation with the rate that the coder will really see: first without a rate, then with the bin statistics
// of the result frozen, as often as asked for.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "contexts.h"
#include "quantize.h"
#include "rd_search.h"
#include "scan_ordered.h"
#include "trellis.h"

namespace netpress {

namespace {

constexpr float kUnreachable = 1e30f;

// Where levels are this large on average, neighbouring ones cost the same.
constexpr double kFineLevels = 128;

double mean_magnitude(const int32_t* levels, int64_t count) {
  double total = 0;
  for (int64_t i = 0; i < count; ++i) total += std::fabs(static_cast<double>(levels[i]));
  return total / static_cast<double>(count);
}

// How often each context saw a zero and a one.
struct BinCounts {
  std::vector<std::array<int64_t, 2>> counts;
  void bin(int index, bool value) { ++counts[static_cast<size_t>(index)][value]; }
  void bypass(uint32_t, int) {}
};

// Bits of a zero and of a one in every context, with the estimate that half a bin of each value was seen before.
class BinBits {
 public:
  explicit BinBits(const BinCounts& bins) : bits_(bins.counts.size()) {
    for (size_t i = 0; i < bits_.size(); ++i) {
      const auto& n = bins.counts[i];
      const double all = std::log2(static_cast<double>(n[0] + n[1]) + 1.0);
      for (size_t value = 0; value < 2; ++value) {
        bits_[i][value] = n[0] + n[1] == 0 ? 1.0 : all - std::log2(static_cast<double>(n[value]) + 0.5);
      }
    }
  }
  double operator()(int index, bool value) const { return bits_[static_cast<size_t>(index)][value]; }

 private:
  std::vector<std::array<double, 2>> bits_;
};

BinCounts count_bins(const int32_t* levels, int64_t count, const ContextLayout& layout) {
  BinCounts bins{std::vector<std::array<int64_t, 2>>(static_cast<size_t>(layout.count))};
  Neighbourhood n;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t coded = coded_from_level(levels[i], n.state);
    binarise<false, false>(bins, layout, n, Bounds{}, coded);
    n.previous = coded;
    n.state = kNextState[n.state][coded & 1];
  }
  return bins;
}

// Adds up the cost of the bins of a magnitude behind its sign.
struct MagnitudeBits {
  const BinBits& bits;
  int first;  // contexts below are significance and sign
  double total = 0;
  void bin(int index, bool value) {
    if (index >= first) total += bits(index, value);
  }
  void bypass(uint32_t, int count) { total += count; }
};

FrozenRates freeze(const BinCounts& bins, const ContextLayout& layout, double lambda) {
  const BinBits bits(bins);
  FrozenRates rates{};
  for (int neighbour = 0; neighbour < 3; ++neighbour) {
    for (int state = 0; state < 8; ++state) {
      const int significance = ContextLayout::kSignificance + 3 * state + neighbour;
      rates.zero[neighbour][state] = static_cast<float>(lambda * bits(significance, false));
      for (int negative = 0; negative < 2; ++negative) {
        rates.nonzero[negative][neighbour][state] = static_cast<float>(
            lambda * (bits(significance, true) + bits(ContextLayout::kSign + neighbour, negative != 0)));
      }
    }
  }
  for (int negative = 0; negative < 2; ++negative) {
    for (int m = 1; m < FrozenRates::kMagnitudes; ++m) {
      MagnitudeBits sink{bits, layout.greater};
      binarise<false, false>(sink, layout, Neighbourhood{}, Bounds{}, negative ? -m : m);
      rates.magnitude[negative][m] = static_cast<float>(lambda * sink.total);
    }
  }
  return rates;
}

void search(const float* weights, int32_t* levels, int64_t count, double reciprocal, const FrozenRates& rates,
            std::vector<RdDecision>& decisions) {
  float cost[8];
  std::fill(cost, cost + 8, kUnreachable);
  cost[0] = 0;
  rd_forward(weights, count, reciprocal, rates, cost, decisions.data());
  unsigned state = static_cast<unsigned>(std::min_element(cost, cost + 8) - cost);
  for (int64_t i = count - 1; i >= 0; --i) {
    const RdDecision decision = decisions[static_cast<size_t>(i)];
    const bool odd = decision.odd >> state & 1;
    const unsigned source = static_cast<unsigned>(odd ? kOddSource[state] : kEvenSource[state]);
    int64_t level = 0;
    if (odd || !(decision.zero >> source & 1)) {
      const double original = (reciprocal * weights[i]) * (weights[i] < 0 ? -1 : 1);
      const int64_t first = std::max<int64_t>(1, static_cast<int64_t>(original) - 1);
      const int64_t kind = source & 1 ? (odd ? 1 : 3) : (odd ? 2 : 0);
      level = first + ((kind - first) & 3);
      if (weights[i] < 0) level = -level;
    }
    levels[i] = static_cast<int32_t>(level);
    state = source;
  }
}

}  // namespace

int64_t quantize_rd(const float* weights, int32_t* levels, const QuantizerSettings& settings, int64_t qp, int unary_length,
                    int passes) {
  QuantizerSettings plain = settings;
  plain.lambda_scale = 0;
  const int64_t used = quantize_trellis(weights, levels, plain, qp);
  const int64_t count = settings.geometry.size();
  // lambda_scale 1 is the slope of the rate-distortion curve of the trellis at high rates: 2 ln 2 times its noise.
  const double lambda = static_cast<double>(settings.lambda_scale) * 4 * (std::log(2.0) / 6.0) * 0.7;
  if (lambda <= 0 || count == 0 || mean_magnitude(levels, count) > kFineLevels) return used;
  const double reciprocal = 1.0 / static_cast<double>(static_cast<float>(step_size(used, settings.qp_density)));
  const ContextLayout layout(unary_length);
  const ScanOrdered ordered(weights, settings.geometry);
  std::vector<RdDecision> decisions(static_cast<size_t>(count));
  ordered.arrange(levels);
  for (int pass = 0; pass < passes; ++pass) {
    const FrozenRates rates = freeze(count_bins(levels, count, layout), layout, lambda);
    search(ordered.data(), levels, count, reciprocal, rates, decisions);
  }
  ordered.restore(levels);
  return used;
}

}  // namespace netpress
