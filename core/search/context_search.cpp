#include "search/context_search.h"

#include <algorithm>
#include <memory>

#include "search/encoder_kernels.h"
#include "search/estimators.h"

namespace netpress {

namespace {

constexpr int64_t kChunk = 4096;  // weights between two runs of the estimators; bounds the memory of the bin strings
// With a unary length of 0 the first greater-than flags and the first prefix bins share contexts: two bins per weight.
constexpr int64_t kBinsPerWeight = 2;

// NNCodec forgets to clear the neighbour at block rows in this pass from version 2 on.
bool clears_neighbour(const TensorCoding& coding, bool reference) { return !reference || coding.first_edition_1_0; }

// The banks of all contexts. Collects the bins of each and runs them through its bank now and then.
class Banks {
 public:
  // Small tensors get little memory: fresh pages would cost more time than their bins.
  Banks(size_t contexts, int64_t weights)
      : capacity_(static_cast<size_t>(kBinsPerWeight * std::min(kChunk, weights) + 1)),
        banks_(contexts),
        used_(contexts),
        bins_(new uint8_t[contexts * capacity_]),
        length_(contexts) {}

  void bin(int index, bool value) {
    bins_[static_cast<size_t>(index) * capacity_ + length_[static_cast<size_t>(index)]++] = value;
  }
  void bypass(uint32_t, int) {}

  // Where the bins of a context go: up to one bin per weight of a chunk and one more may be written, end(index, end)
  // tells how many were.
  uint8_t* begin(int index) { return bins_.get() + static_cast<size_t>(index) * capacity_; }
  void end(int index, const uint8_t* end) {
    length_[static_cast<size_t>(index)] = static_cast<size_t>(end - begin(index));
  }

  void drain() {
    std::vector<BinString> strings;
    for (size_t i = 0; i < length_.size(); ++i) {
      if (length_[i] == 0) continue;
      strings.push_back({&banks_[i], bins_.get() + i * capacity_, length_[i]});
      used_[i] = true;
      length_[i] = 0;
    }
    std::sort(strings.begin(), strings.end(), [](const auto& a, const auto& b) { return a.count > b.count; });
    kEncoderKernels.run_estimators(strings.data(), strings.size());
  }

  void restart() {
    for (size_t i = 0; i < banks_.size(); ++i) {
      if (used_[i]) banks_[i].restart();
      used_[i] = false;
    }
  }

  size_t size() const { return banks_.size(); }
  uint64_t cost(size_t context, size_t set) const { return banks_[context].cost[set]; }

 private:
  size_t capacity_;
  std::vector<EstimatorBank> banks_;
  std::vector<uint8_t> used_;  // since the last restart
  std::unique_ptr<uint8_t[]> bins_;
  std::vector<size_t> length_;
};

// A side of walk_weights() that gathers the bins of any tensor.
template <bool kPlain>
class Gatherer {
 public:
  Gatherer(const int32_t* levels, const TensorCoding& coding, bool reference, Banks& banks)
      : levels_(levels),
        coding_(coding),
        reference_(reference),
        banks_(banks),
        layout_(coding.unary_length),
        bounds_(reference ? Bounds{} : coding.bounds()),
        base_(coding.temporal() ? coding.base : nullptr) {}

  void begin(const Neighbourhood&) {}
  void skip(const Segment&) {}

  void weights(const Segment& s, Neighbourhood& n) {
    for (int64_t p = s.begin; p < s.end; ++p) {
      if (!kPlain && base_ != nullptr) n.base = base_[p];
      if (!kPlain && coding_.history != nullptr) n.history = coding_.history[p] != 0;
      const int32_t coded = coding_.dependent ? coded_from_level(levels_[p], n.state) : levels_[p];
      const int32_t value = reference_ ? levels_[p] : coded;
      binarise<!kPlain, !kPlain>(banks_, layout_, n, bounds_, value);
      n.previous = value;
      if (coding_.dependent) n.state = kNextState[n.state][coded & 1];
      if (++in_chunk_ == kChunk) drain();
    }
  }

  void end_block_row(Neighbourhood& n) {
    drain();
    banks_.restart();
    if (clears_neighbour(coding_, reference_)) n = Neighbourhood{0, 0, false, n.state};
  }

  bool failed() const { return false; }

  void drain() {
    banks_.drain();
    in_chunk_ = 0;
  }

 private:
  const int32_t* levels_;
  const TensorCoding& coding_;
  bool reference_;
  Banks& banks_;
  ContextLayout layout_;
  Bounds bounds_;
  const int32_t* base_;
  int64_t in_chunk_ = 0;
};

// The bins of one chunk of weights of a plain tensor, as Gatherer<true> finds them but hardly with a branch that
// depends on a weight: a value that is not a bin is written, too, and the next one overwrites it.
class PlainChunk {
 public:
  PlainChunk(const ContextLayout& layout, Banks& banks, bool dependent, bool reference)
      : layout_(layout), banks_(banks), dependent_(dependent), reference_(reference) {
    clear();
  }

  // At most kChunk values in a chunk.
  template <bool kDependent, bool kReference>
  void add(const int32_t* levels, int64_t count, Neighbourhood& n) {
    unsigned neighbour = static_cast<unsigned>(ternary_context(n.previous));
    unsigned state = n.state;
    int32_t value = n.previous;
    for (int64_t i = 0; i < count; ++i) {
      const int32_t coded = kDependent ? coded_from_level(levels[i], state) : levels[i];
      value = kReference ? levels[i] : coded;
      const bool some = value != 0;
      const bool negative = value < 0;
      uint8_t*& significance = significance_[3 * state + neighbour];
      *significance++ = some;
      uint8_t*& sign = sign_[neighbour];
      *sign = negative;
      sign += some;
      const uint32_t size = static_cast<uint32_t>(magnitude(value));
      uint32_t*& sizes = sizes_end_[negative];
      *sizes = size;
      sizes += some;
      if (size > static_cast<uint32_t>(layout_.unary)) prefix(size);
      neighbour = static_cast<unsigned>(some) + (value > 0);
      if (kDependent) state = kNextState[state][coded & 1];
    }
    n.previous = value;
    n.state = state;
  }

  void add(const int32_t* levels, int64_t count, Neighbourhood& n) {
    if (dependent_) {
      reference_ ? add<true, true>(levels, count, n) : add<true, false>(levels, count, n);
    } else {
      add<false, false>(levels, count, n);
    }
  }

  // Hands the bins over.
  void drain() {
    for (int i = 0; i < 24; ++i) banks_.end(ContextLayout::kSignificance + i, significance_[i]);
    for (int i = 0; i < 3; ++i) banks_.end(ContextLayout::kSign + i, sign_[i]);
    for (int negative = 0; negative < 2; ++negative) greater_flags(negative);
    banks_.drain();
    clear();
  }

 private:
  void clear() {
    for (int i = 0; i < 24; ++i) significance_[i] = banks_.begin(ContextLayout::kSignificance + i);
    for (int i = 0; i < 3; ++i) sign_[i] = banks_.begin(ContextLayout::kSign + i);
    for (int i = 0; i < 2; ++i) sizes_end_[i] = sizes_[i];
  }

  // Flag j is coded for the magnitudes above j; those that pass it stay in the list.
  void greater_flags(int negative) {
    uint32_t* const sizes = sizes_[negative];
    size_t left = static_cast<size_t>(sizes_end_[negative] - sizes);
    for (int j = 0; j < layout_.unary && left > 0; ++j) {
      const int index = layout_.greater + 2 * j + negative;
      uint8_t* const bins = banks_.begin(index);
      size_t passed = 0;
      for (size_t i = 0; i < left; ++i) {
        const uint32_t size = sizes[i];
        const bool more = size > static_cast<uint32_t>(j + 1);
        bins[i] = more;
        sizes[passed] = size;
        passed += more;
      }
      banks_.end(index, bins + left);
      left = passed;
    }
  }

  void prefix(uint32_t size) {
    uint64_t rest = size - static_cast<uint64_t>(layout_.unary) - 1;
    for (int k = 0;; ++k) {
      const bool more = rest >= uint64_t{1} << k;
      banks_.bin(layout_.prefix + k, more);
      if (!more) return;
      rest -= uint64_t{1} << k;
    }
  }

  ContextLayout layout_;
  Banks& banks_;
  bool dependent_;
  bool reference_;
  uint8_t* significance_[24];
  uint8_t* sign_[3];
  uint32_t* sizes_end_[2];
  uint32_t sizes_[2][kChunk + 1];  // magnitudes by sign
};

// As Gatherer<true> for a unary length above 0.
class PlainGatherer {
 public:
  PlainGatherer(const int32_t* levels, const TensorCoding& coding, bool reference, Banks& banks)
      : levels_(levels),
        coding_(coding),
        reference_(reference),
        banks_(banks),
        chunk_(std::make_unique<PlainChunk>(ContextLayout(coding.unary_length), banks, coding.dependent, reference)) {}

  void begin(const Neighbourhood&) {}
  void skip(const Segment&) {}

  void weights(const Segment& s, Neighbourhood& n) {
    for (int64_t p = s.begin; p < s.end;) {
      const int64_t count = std::min(room_, s.end - p);
      chunk_->add(levels_ + p, count, n);
      p += count;
      room_ -= count;
      if (room_ == 0) drain();
    }
  }

  void end_block_row(Neighbourhood& n) {
    drain();
    banks_.restart();
    if (clears_neighbour(coding_, reference_)) n = Neighbourhood{0, 0, false, n.state};
  }

  bool failed() const { return false; }

  void drain() {
    chunk_->drain();
    room_ = kChunk;
  }

 private:
  const int32_t* levels_;
  const TensorCoding& coding_;
  bool reference_;
  Banks& banks_;
  std::unique_ptr<PlainChunk> chunk_;
  int64_t room_ = kChunk;
};

template <typename Side>
void gather(const int32_t* levels, const TensorCoding& coding, const std::vector<uint8_t>& skipped, bool reference,
            Banks& banks) {
  Side side(levels, coding, reference, banks);
  walk_weights(coding, skipped, side);
  side.drain();
}

constexpr uint64_t kSetIndexCost = 3 * kBypassCost;

std::vector<uint8_t> choose_as_reference(const Banks& banks) {
  std::vector<uint8_t> sets(banks.size(), 0);
  for (size_t i = 0; i < banks.size(); ++i) {
    uint64_t best = banks.cost(i, 0);
    for (size_t e = 1; e < kSetCount; ++e) {
      const uint64_t candidate = banks.cost(i, e) + kSetIndexCost;
      if (candidate < best) {
        best = candidate;
        sets[i] = static_cast<uint8_t>(e);
      }
    }
  }
  return sets;
}

// The selection flags adapt, so that a set that is not 0 makes the flags after it dearer. Tries several prices for
// that and keeps the choice with the smallest total.
std::vector<uint8_t> choose_best(const Banks& banks, const TensorCoding& coding) {
  std::vector<uint8_t> best_sets(banks.size(), 0);
  uint64_t best_total = ~uint64_t{0};
  const ContextLayout layout(coding.unary_length);
  constexpr uint64_t kNever = ~uint64_t{0} / 2;
  constexpr uint64_t kPrices[] = {kNever, 0, 8192, 16384, 32768, 65536};
  for (const uint64_t price : kPrices) {
    std::vector<uint8_t> sets(banks.size(), 0);
    uint64_t total = 0;
    Context selection;
    selection.reset(0);
    for_each_listed_context(coding, coding.use_history, [&](int index, bool signalled) {
      if (!signalled) return;
      const size_t i = static_cast<size_t>(index);
      size_t set = 1;
      for (size_t e = 2; e < kSetCount; ++e) {
        if (banks.cost(i, e) < banks.cost(i, set)) set = e;
      }
      const uint64_t with = selection.cost(true) + kSetIndexCost + banks.cost(i, set);
      const uint64_t without = selection.cost(false) + banks.cost(i, 0);
      // The last context of NNCodec 1.0 is never used, and decoders refuse a set for it.
      const bool change = index != layout.prefix + kPrefixCount && with < without && without - with > price;
      if (change) sets[i] = static_cast<uint8_t>(set);
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
  Banks banks(contexts, coding.geometry.size());
  if (coding.is_plain(coding.use_history)) {
    if (coding.unary_length > 0) {
      gather<PlainGatherer>(levels, coding, skipped, reference, banks);
    } else {
      gather<Gatherer<true>>(levels, coding, skipped, reference, banks);
    }
  } else {
    gather<Gatherer<false>>(levels, coding, skipped, reference, banks);
  }
  return reference ? choose_as_reference(banks) : choose_best(banks, coding);
}

}  // namespace netpress
