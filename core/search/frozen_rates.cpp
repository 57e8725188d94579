#include "search/frozen_rates.h"

#include <cmath>

#include "coder/trellis.h"

namespace netpress {

namespace {

// Counts the bins of a magnitude after its sign.
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

}  // namespace

// Hardly with a branch that depends on a level.
BinCounts count_bins(const int32_t* levels, int64_t count, const ContextLayout& layout, bool dependent) {
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
    const int32_t coded = dependent ? coded_from_level(levels[i], n.state) : levels[i];
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
    if (dependent) n.state = kNextState[n.state][coded & 1];
  }
  for (int32_t m = 1; m < kCommon; ++m) {
    add(n, m, magnitudes[0][m]);
    add(n, -m, magnitudes[1][m]);
  }
  return bins;
}

namespace {

// Adds up the cost of the bins of a magnitude after its sign.
struct MagnitudeBits {
  const BinBits& bits;
  int first;  // contexts below are significance and sign
  double total = 0;
  void bin(int index, bool value) {
    if (index >= first) total += bits(index, value);
  }
  void bypass(uint32_t, int count) { total += count; }
};

}  // namespace

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

}  // namespace netpress
