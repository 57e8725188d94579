#include "context_search.h"

#include <array>
#include <memory>

#include "trellis.h"

namespace netpress {

namespace {

constexpr int64_t kChunk = 4096;  // weights between two runs of the estimators; bounds the memory of the bin strings
// With a unary length of 0 the first greater-than flags and the first prefix bins share contexts: two bins per weight.
constexpr int64_t kCapacity = 2 * kChunk;

// The estimators of all sets of one context, with the cost of every bin they have seen. Sets with equal rates forget
// their start; once two have equal states all their further costs are equal, so only one of them is run.
class SetCosts {
 public:
  SetCosts() { restart(); }

  // Back to the initial states; the costs are kept.
  void restart() {
    for (int e = 0; e < kSetCount; ++e) {
      if (leader_[e] != e) cost_[e] = cost(e);
    }
    for (int e = 0; e < kSetCount; ++e) {
      state_[e].reset(static_cast<unsigned>(e));
      leader_[e] = e;
    }
    fresh_ = true;
  }

  void run(const uint8_t* bins, size_t count) {
    if (count == 0) return;
    fresh_ = false;
    for (int e = 0; e < kSetCount; ++e) {
      if (leader_[e] != e) continue;
      Context state = state_[e];
      uint64_t cost = 0;
      for (size_t i = 0; i < count; ++i) {
        cost += state.cost(bins[i]);
        state.update(bins[i]);
      }
      state_[e] = state;
      cost_[e] += cost;
    }
    merge();
  }

  bool fresh() const { return fresh_; }

  uint64_t cost(int e) const { return leader_[e] == e ? cost_[e] : cost_[leader_[e]] + offset_[e]; }

 private:
  void merge() {
    for (int e = 1; e < kSetCount; ++e) {
      if (leader_[e] != e) continue;
      for (int other = 0; other < e; ++other) {
        if (leader_[other] == other && kEstimatorSets[e].fast_shift == kEstimatorSets[other].fast_shift &&
            kEstimatorSets[e].slow_shift == kEstimatorSets[other].slow_shift &&
            state_[e].fast == state_[other].fast && state_[e].slow == state_[other].slow) {
          for (int follower = e; follower < kSetCount; ++follower) {
            if (leader_[follower] == e) {
              offset_[follower] = cost(follower) - cost_[other];  // modulo 2^64: may be negative
              leader_[follower] = other;
            }
          }
          break;
        }
      }
    }
  }

  std::array<Context, kSetCount> state_;
  std::array<uint64_t, kSetCount> cost_{};
  std::array<uint64_t, kSetCount> offset_{};
  std::array<int, kSetCount> leader_{};
  bool fresh_ = true;
};

// Collects the bins of each context.
class BinStrings {
 public:
  explicit BinStrings(int contexts)
      : bins_(new uint8_t[static_cast<size_t>(contexts) * kCapacity]), length_(static_cast<size_t>(contexts)) {}

  void bin(int index, bool value) {
    bins_[static_cast<size_t>(index) * kCapacity + length_[static_cast<size_t>(index)]++] = value;
  }
  void bypass(uint32_t, int) {}

  void drain(std::vector<SetCosts>& costs) {
    for (size_t i = 0; i < length_.size(); ++i) {
      costs[i].run(bins_.get() + i * kCapacity, length_[i]);
      length_[i] = 0;
    }
  }

 private:
  std::unique_ptr<uint8_t[]> bins_;
  std::vector<uint32_t> length_;
};

template <bool kPlain>
void gather(const int32_t* levels, const TensorCoding& coding, const std::vector<uint8_t>& skipped, bool reference,
            std::vector<SetCosts>& costs) {
  const ContextLayout layout(coding.unary_length);
  const Bounds bounds = reference ? Bounds{} : coding.bounds();
  const int32_t* base = coding.temporal() ? coding.base : nullptr;
  // NNCodec forgets to clear the neighbour at block rows in this pass from version 2 on.
  const bool clears_neighbour = !reference || coding.first_edition_1_0;
  BinStrings strings(layout.count);
  Neighbourhood n;
  int64_t in_chunk = 0;
  for_each_segment(coding.geometry, [&](const Segment& s) {
    if (!skipped.empty() && skipped[static_cast<size_t>(s.row)]) {
      if (coding.dependent) n.state = after_zeros(n.state, static_cast<uint64_t>(coding.geometry.columns));
    } else {
      for (int64_t p = s.begin; p < s.end; ++p) {
        if (!kPlain && base != nullptr) n.base = base[p];
        if (!kPlain && coding.history != nullptr) n.history = coding.history[p] != 0;
        const int32_t coded = coding.dependent ? coded_from_level(levels[p], n.state) : levels[p];
        const int32_t value = reference ? levels[p] : coded;
        binarise<!kPlain, !kPlain>(strings, layout, n, bounds, value);
        n.previous = value;
        if (coding.dependent) n.state = kNextState[n.state][coded & 1];
        if (++in_chunk == kChunk) {
          strings.drain(costs);
          in_chunk = 0;
        }
      }
    }
    if (s.closes_block_row) {
      strings.drain(costs);
      in_chunk = 0;
      for (SetCosts& c : costs) {
        if (!c.fresh()) c.restart();
      }
      if (clears_neighbour) n = Neighbourhood{0, 0, false, n.state};
    }
  });
  strings.drain(costs);
}

constexpr uint64_t kSetIndexCost = 3 * kBypassCost;

std::vector<uint8_t> choose_as_reference(const std::vector<SetCosts>& costs) {
  std::vector<uint8_t> sets(costs.size(), 0);
  for (size_t i = 0; i < costs.size(); ++i) {
    uint64_t best = costs[i].cost(0);
    for (int e = 1; e < kSetCount; ++e) {
      const uint64_t candidate = costs[i].cost(e) + kSetIndexCost;
      if (candidate < best) {
        best = candidate;
        sets[i] = static_cast<uint8_t>(e);
      }
    }
  }
  return sets;
}

// The selection flags adapt, so that a set that is not 0 makes the flags behind it dearer. Tries several prices for that
// and keeps the choice with the smallest total.
std::vector<uint8_t> choose_best(const std::vector<SetCosts>& costs, const TensorCoding& coding) {
  std::vector<uint8_t> best_sets(costs.size(), 0);
  uint64_t best_total = ~uint64_t{0};
  constexpr uint64_t kNever = ~uint64_t{0} / 2;
  for (const uint64_t price : {kNever, uint64_t{0}, uint64_t{8192}, uint64_t{16384}, uint64_t{32768}, uint64_t{65536}}) {
    std::vector<uint8_t> sets(costs.size(), 0);
    uint64_t total = 0;
    Context selection;
    selection.reset(0);
    for_each_listed_context(coding, coding.use_history, [&](int index, bool signalled) {
      if (!signalled) return;
      const SetCosts& c = costs[static_cast<size_t>(index)];
      int set = 1;
      for (int e = 2; e < kSetCount; ++e) {
        if (c.cost(e) < c.cost(set)) set = e;
      }
      const uint64_t with = selection.cost(true) + kSetIndexCost + c.cost(set);
      const uint64_t without = selection.cost(false) + c.cost(0);
      const bool change = with < without && without - with > price;
      if (change) sets[static_cast<size_t>(index)] = static_cast<uint8_t>(set);
      selection.update(change);
      total += change ? with : without;
    });
    if (total < best_total) {
      best_total = total;
      best_sets = std::move(sets);
    }
  }
  return best_sets;
}

}  // namespace

std::vector<uint8_t> choose_sets(const int32_t* levels, const TensorCoding& coding,
                                 const std::vector<uint8_t>& skipped, Search search) {
  const size_t contexts = static_cast<size_t>(ContextLayout(coding.unary_length).count);
  if (search == Search::kOff || coding.bounding_codebook() == 1) return std::vector<uint8_t>(contexts, 0);
  const bool reference = search == Search::kReference;
  std::vector<SetCosts> costs(contexts);
  if (coding.is_plain(coding.use_history)) {
    gather<true>(levels, coding, skipped, reference, costs);
  } else {
    gather<false>(levels, coding, skipped, reference, costs);
  }
  return reference ? choose_as_reference(costs) : choose_best(costs, coding);
}

}  // namespace netpress
