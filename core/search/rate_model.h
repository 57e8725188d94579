// Bits that an integer would cost, for the quantisers: adaptive contexts of set 0, unbounded binarisation.
#pragma once

#include <cstdint>
#include <vector>

#include "coder/contexts.h"

namespace netpress {

class RateModel {
 public:
  // `unary_length` may be 0 here, unlike in a payload.
  explicit RateModel(int unary_length)
      : layout_(unary_length), contexts_(static_cast<size_t>(layout_.count)) {
    for (Context& c : contexts_) c.reset(0);
  }

  // Cost of `value` in 1/32768 bit.
  uint64_t cost(int32_t value, unsigned state) {
    CostSink sink{contexts_.data()};
    binarise<false, false>(sink, layout_, neighbourhood(state), Bounds{}, value);
    return sink.total;
  }

  // Adapts the contexts to `value`, which becomes the neighbour of the next one.
  void advance(int32_t value, unsigned state) {
    AdaptSink sink{contexts_.data()};
    binarise<false, false>(sink, layout_, neighbourhood(state), Bounds{}, value);
    previous_ = value;
  }

  // Takes over the contexts of `other`, but not its neighbour.
  void copy_contexts(const RateModel& other) { contexts_ = other.contexts_; }

 private:
  struct CostSink {
    const Context* contexts;
    uint64_t total = 0;
    void bin(int index, bool value) { total += contexts[index].cost(value); }
    void bypass(uint32_t, int count) { total += static_cast<uint64_t>(count) * kBypassCost; }
  };
  struct AdaptSink {
    Context* contexts;
    void bin(int index, bool value) { contexts[index].update(value); }
    void bypass(uint32_t, int) {}
  };

  Neighbourhood neighbourhood(unsigned state) const {
    Neighbourhood n;
    n.previous = previous_;
    n.state = state;
    return n;
  }

  ContextLayout layout_;
  std::vector<Context> contexts_;
  int32_t previous_ = 0;
};

}  // namespace netpress
