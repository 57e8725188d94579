#include "coder/run_decoder.h"

#include <algorithm>

#include "coder/trellis.h"

namespace netpress {

namespace {

template <bool kDependent>
NETPRESS_INLINE void decode_part(ArithmeticDecoder& outer, Context* contexts, const ContextLayout& layout,
                                 int32_t* levels, int64_t count, Neighbourhood& n) {
  ArithmeticDecoder coder = outer;
  Context* const greater = contexts + layout.greater;
  uint64_t neighbour = static_cast<uint64_t>(ternary_context(n.previous));
  uint64_t state = n.state;
  int64_t value = n.previous;
  for (int32_t* const end = levels + count; levels != end; ++levels) {
    if (!coder.bin(contexts[3 * state + neighbour])) {
      *levels = 0;
      value = 0;
      neighbour = 0;
      if (kDependent) state = next_state(state, 0);
      continue;
    }
    const bool negative = coder.bin(contexts[ContextLayout::kSign + neighbour]);
    neighbour = 2 - static_cast<uint64_t>(negative);
    Context* flag = greater + negative;
    int64_t size = 1;
    while (coder.bin(*flag)) {
      flag += 2;
      if (++size > layout.unary) {
        size += decode_remainder(coder, contexts + layout.prefix);
        if (size > int64_t{2147483647} + negative) coder.fail(Status::kValueOutOfRange);
        break;
      }
    }
    const int64_t sign = -static_cast<int64_t>(negative);
    value = (size ^ sign) - sign;
    if (kDependent) {
      const int64_t magnitude = 2 * size - static_cast<int64_t>(state & 1);
      const int64_t level = (magnitude ^ sign) - sign;
      if (level != static_cast<int32_t>(level)) coder.fail(Status::kValueOutOfRange);
      *levels = static_cast<int32_t>(level);
      state = next_state(state, static_cast<uint64_t>(size) & 1);
    } else {
      *levels = static_cast<int32_t>(value);
    }
  }
  outer = coder;
  n.previous = static_cast<int32_t>(value);
  n.state = static_cast<unsigned>(state);
}

// A failure is looked for between parts of a run, not in the loop. Until then bins come out of zeros.
constexpr int64_t kLongestPart = 1024;

template <bool kDependent>
NETPRESS_INLINE void decode_parts(ArithmeticDecoder& coder, Context* contexts, const ContextLayout& layout,
                                  int32_t* levels, int64_t count, Neighbourhood& n) {
  while (count > 0 && !coder.failed()) {
    const int64_t part = std::min(count, kLongestPart);
    decode_part<kDependent>(coder, contexts, layout, levels, part, n);
    levels += part;
    count -= part;
  }
}

#if defined(__x86_64__)
template <bool kDependent>
NETPRESS_BMI2 void decode_parts_bmi2(ArithmeticDecoder& coder, Context* contexts, const ContextLayout& layout,
                                     int32_t* levels, int64_t count, Neighbourhood& n) {
  decode_parts<kDependent>(coder, contexts, layout, levels, count, n);
}
#endif

}  // namespace

void decode_run_scalar(ArithmeticDecoder& coder, Context* contexts, const ContextLayout& layout, bool dependent,
                       int32_t* levels, int64_t count, Neighbourhood& n) {
  const auto decode = dependent ? decode_parts<true> : decode_parts<false>;
  decode(coder, contexts, layout, levels, count, n);
}

#if defined(__x86_64__)
void decode_run_bmi2(ArithmeticDecoder& coder, Context* contexts, const ContextLayout& layout, bool dependent,
                     int32_t* levels, int64_t count, Neighbourhood& n) {
  const auto decode = dependent ? decode_parts_bmi2<true> : decode_parts_bmi2<false>;
  decode(coder, contexts, layout, levels, count, n);
}
#endif

}  // namespace netpress
