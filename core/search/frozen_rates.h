// Rates for the searches that do not adapt while they run: the bins of levels found before are counted per context, and
// a bin costs what the counts say.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "coder/contexts.h"
#include "search/frozen_rate_search.h"

namespace netpress {

// How often each context saw a zero and a one.
struct BinCounts {
  std::vector<std::array<int64_t, 2>> counts;
};

// Counts the bins of levels in scan order; `dependent` levels lie on a path of the trellis.
BinCounts count_bins(const int32_t* levels, int64_t count, const ContextLayout& layout, bool dependent);

// Bits of every integer in every context, times lambda.
FrozenRates freeze(const BinCounts& bins, const ContextLayout& layout, double lambda);

}  // namespace netpress
