#include <algorithm>
#include <array>
#include <cfloat>
#include <cstring>
#include <vector>

#include "coder/contexts.h"
#include "search/nncodec_rate_search.h"

namespace netpress {

namespace {

// Context of set 0, in half the size of a Context.
struct SmallContext {
  int16_t fast;
  int16_t slow;

  uint32_t cost(bool bin) const { return kBinCost[bin][512 + ((slow + 16 * fast) >> 3)]; }

  void update(bool bin) {
    const StepTable& steps = kBinTables.steps[bin];
    const std::ptrdiff_t rounding = static_cast<std::ptrdiff_t>(bin) - 1;
    fast = static_cast<int16_t>(fast + steps.fast[16 + ((fast + rounding) >> 3)]);
    slow = static_cast<int16_t>(slow + steps.slow[16 + ((slow + rounding) >> 7)]);
  }
};
static_assert(kEstimatorSets[0].sum == 0 && kEstimatorSets[0].fast == 0);  // so that contexts start as zeros

// Contexts of all states, before and after a weight. Only those that some state has touched are copied: the others are
// still the same everywhere.
class RateSurvivors {
 public:
  explicit RateSurvivors(int unary_length)
      : unary_(unary_length),
        prefix_(CompactContextLayout(unary_length).prefix),
        stride_((CompactContextLayout(unary_length).count + kChunk - 1) / kChunk * kChunk),
        contexts_(static_cast<size_t>(16 * stride_)) {}

  // Costs of the integers 0, `size` and `size` + 1 with the sign `negative`.
  std::array<uint64_t, 3> costs(unsigned state, unsigned neighbour, bool negative, int64_t size) const {
    const SmallContext* const c = before(state);
    const SmallContext significance = c[3 * state + neighbour];
    const uint64_t shared = uint64_t{significance.cost(true)} + c[kSign + neighbour].cost(negative);
    const auto [low, high] = magnitude_costs(c, negative, size);
    return {significance.cost(false), shared + low, shared + high};
  }

  // Takes the contexts of the state before to the state after, and adapts them to an integer.
  void advance(unsigned source, unsigned target, unsigned neighbour, int32_t value) {
    SmallContext* const c = after(target);
    copy(before(source), c);
    const bool some = value != 0;
    c[3 * target + neighbour].update(some);
    if (!some) return;
    const bool negative = value < 0;
    c[kSign + neighbour].update(negative);
    const int64_t size = magnitude(value);
    SmallContext* const greater = c + kGreater + negative;
    int j = 0;
    int touched = kGreater;
    bool more;
    do {
      more = size > j + 1;
      greater[2 * j].update(more);
      ++j;
      touched += 2;
    } while (more && j < unary_);
    if (more) touched = std::max(touched, adapt_prefix(c, size - (j + 1)));
    touched_ = std::max(touched_, touched);
  }

  void swap() { flip_ ^= 8; }

 private:
  static constexpr int kSign = CompactContextLayout::kSign;
  static constexpr int kGreater = CompactContextLayout::kGreater;
  static constexpr int kChunk = 8;  // contexts that are copied at once

  SmallContext* after(unsigned state) { return contexts_.data() + static_cast<int>(state + 8 - flip_) * stride_; }
  const SmallContext* before(unsigned state) const {
    return contexts_.data() + static_cast<int>(state + flip_) * stride_;
  }

  void copy(const SmallContext* from, SmallContext* to) const {
    for (int i = 0; i < touched_; i += kChunk) std::memcpy(to + i, from + i, kChunk * sizeof(SmallContext));
  }

  std::array<uint64_t, 2> magnitude_costs(const SmallContext* c, bool negative, int64_t size) const {
    if (size >= unary_) return {magnitude_cost(c, negative, size), magnitude_cost(c, negative, size + 1)};
    const SmallContext* greater = c + kGreater + negative;
    uint64_t shared = 0;
    for (int64_t j = 1; j < size; ++j, greater += 2) shared += greater->cost(true);
    return {shared + greater->cost(false), shared + greater->cost(true) + greater[2].cost(false)};
  }

  uint64_t magnitude_cost(const SmallContext* c, bool negative, int64_t size) const {
    uint64_t total = 0;
    int j = 0;
    bool more;
    do {
      more = size > j + 1;
      total += c[kGreater + negative + 2 * j].cost(more);
      ++j;
    } while (more && j < unary_);
    if (!more) return total;
    int64_t rest = size - (j + 1);
    int k = 0;
    for (; rest >= int64_t{1} << k; ++k) {
      total += c[prefix_ + k].cost(true);
      rest -= int64_t{1} << k;
    }
    return total + c[prefix_ + k].cost(false) + static_cast<uint64_t>(k) * kBypassCost;
  }

  // Returns the first index after the contexts it touches.
  int adapt_prefix(SmallContext* c, int64_t rest) const {
    int k = 0;
    for (; rest >= int64_t{1} << k; ++k) {
      c[prefix_ + k].update(true);
      rest -= int64_t{1} << k;
    }
    c[prefix_ + k].update(false);
    return prefix_ + k + 1;
  }

  int unary_;
  int prefix_;
  int stride_;
  int touched_ = kGreater + 2;
  unsigned flip_ = 0;
  std::vector<SmallContext> contexts_;
};

}  // namespace

void nncodec_rate_forward_scalar(const float* weights, int64_t count, const RateSearch& search, double* cost,
                                 uint16_t* decisions) {
  RateSurvivors survivors(search.unary_length);
  // Neighbour of each state, as a ternary context: of the weight before, and of the one before that.
  unsigned neighbours[8] = {};
  unsigned older[8] = {};
  for (int64_t i = 0; i < count; ++i) {
    const RateCandidates c = rate_candidates(weights[i], search);
    const bool negative = weights[i] < 0;
    double total[8][5];
    for (unsigned s = 0; s < 8; ++s) {
      // Of even states the classes 0 and 2, of odd ones 1 and 3: magnitudes that differ by one.
      unsigned low = s & 1;
      unsigned high = low + 2;
      if (magnitude(c.coded[low]) > magnitude(c.coded[high])) std::swap(low, high);
      const auto rate = survivors.costs(s, neighbours[s], negative, magnitude(c.coded[low]));
      total[s][kZeroKind] = (cost[s] + c.distortion[kZeroKind]) + static_cast<double>(rate[0]);
      total[s][low] = (cost[s] + c.distortion[low]) + static_cast<double>(rate[1]);
      total[s][high] = (cost[s] + c.distortion[high]) + static_cast<double>(rate[2]);
    }
    unsigned decision = 0;
    for (unsigned t = 0; t < 8; ++t) {
      double best = DBL_MAX;
      unsigned taken = kNoBranch;
      for (unsigned b = 0; b < 3; ++b) {
        const double candidate = total[kBranches[t][b].source][kBranches[t][b].kind];
        taken = candidate < best ? b : taken;
        best = candidate < best ? candidate : best;
      }
      cost[t] = best;
      decision |= ((taken & 1) | (taken >> 1) << 8) << t;
      const Branch branch = taken == kNoBranch ? Branch{0, kZeroKind} : kBranches[t][taken];
      survivors.advance(branch.source, t, older[t], c.coded[branch.kind]);
      older[t] = static_cast<unsigned>(ternary_context(c.coded[branch.kind]));
    }
    std::swap(neighbours, older);
    survivors.swap();
    decisions[i] = static_cast<uint16_t>(decision);
  }
}

}  // namespace netpress
