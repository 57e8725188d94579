#include "coder/run_encoder.h"

#include <cstring>

#include "base/processor.h"
#include "coder/trellis.h"

namespace netpress {

namespace {

// Greater-than flags of the magnitudes that fit a fixed number of bins: copied as a whole, whatever their number.
constexpr int kLongest = 14;
struct Flags {
  uint16_t bins[2][kLongest + 1][kLongest];
};
constexpr Flags kFlags = [] {
  Flags f{};
  const ContextLayout layout(kLongest);  // the first flags are at the same place for every unary length
  for (int negative = 0; negative < 2; ++negative) {
    for (int size = 0; size <= kLongest; ++size) {
      for (int j = 0; j < kLongest; ++j) {
        f.bins[negative][size][j] = static_cast<uint16_t>(2 * (layout.greater + 2 * j + negative) + (size > j + 1));
      }
    }
  }
  return f;
}();

// Binarises a block of weights, then codes the bins: neither loop has a branch that depends on a common weight.
template <bool kDependent>
NETPRESS_INLINE void encode_run(ArithmeticEncoder& coder, Context* contexts, const ContextLayout& layout,
                                const int32_t* levels, int64_t count, Neighbourhood& n) {
  struct LongSink {
    ArithmeticEncoder& coder;
    Context* contexts;
    void bin(int index, bool value) { coder.bin(contexts[index], value); }
    void bypass(uint32_t bits, int number) { coder.bypass(bits, number); }
  };
  constexpr int64_t kBlock = 128;
  const int64_t longest = layout.unary < kLongest ? layout.unary : kLongest;
  uint16_t buffer[kBlock * (2 + kLongest)];
  uint64_t neighbour = static_cast<uint64_t>(ternary_context(n.previous));
  uint64_t state = n.state;
  int32_t value = n.previous;
  while (count > 0) {
    const int64_t block = count < kBlock ? count : kBlock;
    uint16_t* next = buffer;
    for (int64_t i = 0; i < block; ++i) {
      value = kDependent ? coded_from_level(levels[i], static_cast<unsigned>(state)) : levels[i];
      const bool negative = value < 0;
      const int64_t size = magnitude(value);
      if (size > longest) {
        coder.bins(contexts, buffer, static_cast<size_t>(next - buffer));
        next = buffer;
        LongSink sink{coder, contexts};
        Neighbourhood here;
        here.previous = neighbour == 0 ? 0 : neighbour == 1 ? -1 : 1;
        here.state = static_cast<unsigned>(state);
        binarise<false, false>(sink, layout, here, Bounds{}, value);
      } else {
        const bool some = value != 0;
        next[0] = static_cast<uint16_t>(2 * (3 * state + neighbour) + some);
        next[1] = static_cast<uint16_t>(2 * (ContextLayout::kSign + neighbour) + negative);
        std::memcpy(next + 2, kFlags.bins[negative][size], sizeof(kFlags.bins[0][0]));
        next += 1 + some + size;
      }
      neighbour = static_cast<uint64_t>(value != 0) + (value > 0);
      if (kDependent) state = next_state(state, static_cast<uint64_t>(value) & 1);
    }
    coder.bins(contexts, buffer, static_cast<size_t>(next - buffer));
    levels += block;
    count -= block;
  }
  n.previous = value;
  n.state = static_cast<unsigned>(state);
}

#if defined(__x86_64__)
template <bool kDependent>
NETPRESS_BMI2 void encode_bmi2(ArithmeticEncoder& coder, Context* contexts, const ContextLayout& layout,
                               const int32_t* levels, int64_t count, Neighbourhood& n) {
  encode_run<kDependent>(coder, contexts, layout, levels, count, n);
}
#endif

}  // namespace

void encode_run_scalar(ArithmeticEncoder& coder, Context* contexts, const ContextLayout& layout, bool dependent,
                       const int32_t* levels, int64_t count, Neighbourhood& n) {
  const auto encode = dependent ? encode_run<true> : encode_run<false>;
  encode(coder, contexts, layout, levels, count, n);
}

#if defined(__x86_64__)
void encode_run_bmi2(ArithmeticEncoder& coder, Context* contexts, const ContextLayout& layout, bool dependent,
                     const int32_t* levels, int64_t count, Neighbourhood& n) {
  const auto encode = dependent ? encode_bmi2<true> : encode_bmi2<false>;
  encode(coder, contexts, layout, levels, count, n);
}
#endif

}  // namespace netpress
