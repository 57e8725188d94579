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

// Class of the candidate that leaves an even and an odd state with an integer of even and of odd parity.
constexpr uint8_t kKinds[2][2] = {{0, 2}, {3, 1}};

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
};

// Counts the bins of a magnitude behind its sign.
struct MagnitudeCounts {
  BinCounts& bins;
  int first;  // contexts below are significance and sign
  int64_t times;
  void bin(int index, bool value) {
    if (index >= first) bins.counts[static_cast<size_t>(index)][value] += times;
  }
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

// Counts the bins of levels in scan order, hardly with a branch that depends on a level.
BinCounts count_bins(const int32_t* levels, int64_t count, const ContextLayout& layout) {
  BinCounts bins{std::vector<std::array<int64_t, 2>>(static_cast<size_t>(layout.count))};
  constexpr int64_t kCommon = 64;
  int64_t magnitudes[2][kCommon] = {};  // by sign; flags and prefixes follow from them
  const auto add = [&](const Neighbourhood& at, int32_t value, int64_t times) {
    MagnitudeCounts sink{bins, layout.greater, times};
    binarise<false, false>(sink, layout, at, Bounds{}, value);
  };
  Neighbourhood n;
  size_t neighbour = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t coded = coded_from_level(levels[i], n.state);
    const bool some = coded != 0;
    const bool negative = coded < 0;
    ++bins.counts[ContextLayout::kSignificance + 3 * n.state + neighbour][some];
    bins.counts[ContextLayout::kSign + neighbour][negative] += some;
    const int64_t size = magnitude(coded);
    if (size < kCommon) {
      ++magnitudes[negative][size];
    } else {
      add(n, coded, 1);
    }
    neighbour = static_cast<size_t>(some) + (coded > 0);
    n.state = kNextState[n.state][coded & 1];
  }
  for (int32_t m = 1; m < kCommon; ++m) {
    add(n, m, magnitudes[0][m]);
    add(n, -m, magnitudes[1][m]);
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
  const unsigned last = static_cast<unsigned>(std::min_element(cost, cost + 8) - cost);
  trace_back(weights, levels, count, reciprocal, last, [&](int64_t i, unsigned state) {
    const RdDecision decision = decisions[static_cast<size_t>(i)];
    const unsigned odd = decision.odd >> state & 1;
    const uint8_t source = static_cast<uint8_t>(odd ? kOddSource[state] : kEvenSource[state]);
    const unsigned zero = decision.zero >> source & ~odd & 1;
    return Branch{source, zero ? kZeroKind : kKinds[source & 1][odd]};
  });
}

}  // namespace

int64_t quantize_rd(const float* weights, int32_t* levels, const QuantizerSettings& settings, int64_t qp,
                    int unary_length, int passes) {
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
