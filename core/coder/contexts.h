// Context selection and the binarisation of one integer, written once for every user: the encoder, the decoder, the
// parameter-set search and the rate models differ only in what they do with a bin. Source: ISO/IEC 15938-17,
// binarisation of quantised weights and the selection of their contexts.
#pragma once

#include <cstdint>
#include <limits>

#include "base/status.h"
#include "coder/context_layout.h"
#include "coder/probability.h"

namespace netpress {

// What the choice of a context depends on besides the integer itself.
struct Neighbourhood {
  int32_t previous = 0;
  int32_t base = 0;
  bool history = false;
  unsigned state = 0;
};

inline int ternary_context(int32_t v) { return v == 0 ? 0 : v < 0 ? 1 : 2; }

inline int64_t magnitude(int32_t v) { return v < 0 ? -static_cast<int64_t>(v) : v; }

template <bool kTemporal>
int significance_context(const Neighbourhood& n) {
  if (n.history) return ContextLayout::kSignificanceHistory + static_cast<int>(n.state);
  if (kTemporal && n.base != 0) {
    return ContextLayout::kSignificanceTemporal + 2 * static_cast<int>(n.state) + (magnitude(n.base) > 1);
  }
  return ContextLayout::kSignificance + 3 * static_cast<int>(n.state) + ternary_context(n.previous);
}

template <bool kTemporal>
int sign_context(const Neighbourhood& n) {
  if (kTemporal && n.base != 0) return ContextLayout::kSignTemporal + (n.base > 0);
  return ContextLayout::kSign + ternary_context(n.previous);
}

template <bool kTemporal>
int greater_context(const ContextLayout& layout, const Neighbourhood& n, bool negative, int j) {
  if (kTemporal && n.base != 0) return layout.greater_temporal + 2 * j + (magnitude(n.base) < j);
  return layout.greater + 2 * j + negative;
}

inline constexpr int64_t kUnbounded = std::numeric_limits<int64_t>::max() / 4;

// Largest magnitudes that a codebook admits; the standard's profile 0 and tensors without a codebook have none.
struct Bounds {
  int64_t negative = kUnbounded;
  int64_t positive = kUnbounded;
  bool sign_implied = false;
  bool implied_negative = false;
  bool single = false;  // one entry: nothing is coded at all

  static Bounds codebook(int64_t size, int64_t zero_offset) {
    Bounds b;
    if (size <= 0) return b;
    b.negative = zero_offset;
    b.positive = size - 1 - zero_offset;
    b.sign_implied = zero_offset == 0 || zero_offset == size - 1;
    b.implied_negative = zero_offset != 0;
    b.single = size == 1;
    return b;
  }
};

// Sends the bins of `value` to sink.bin(context, bool) and sink.bypass(bits, count).
template <bool kTemporal, bool kBounded, typename Sink>
void binarise(Sink& sink, const ContextLayout& layout, const Neighbourhood& n, const Bounds& bounds, int32_t value) {
  if (kBounded && bounds.single) return;
  sink.bin(significance_context<kTemporal>(n), value != 0);
  if (value == 0) return;
  const bool negative = value < 0;
  if (!(kBounded && bounds.sign_implied)) sink.bin(sign_context<kTemporal>(n), negative);
  const int64_t limit = kBounded ? (negative ? bounds.negative : bounds.positive) : kUnbounded;
  if (kBounded && limit <= 1) return;
  const int64_t size = magnitude(value);
  int j = 0;
  do {
    const bool more = size > j + 1;
    sink.bin(greater_context<kTemporal>(layout, n, negative, j), more);
    ++j;
    if (!more) return;
  } while (j < layout.unary && !(kBounded && limit <= j + 1));
  if (kBounded && limit <= j + 1) return;
  const int64_t rest = size - (j + 1);
  int k = 0;
  int64_t group = 0;
  while (!(kBounded && k > 0 && limit - (j + 1) < group + (int64_t{1} << k))) {
    const bool more = rest >= group + (int64_t{1} << k);
    sink.bin(layout.prefix + k, more);
    if (!more) break;
    group += int64_t{1} << k;
    ++k;
  }
  sink.bypass(static_cast<uint32_t>(rest - group), k);
}

// Inverse of binarise(): source.bin(context) and source.bypass(count) deliver the bins, source.fail(status) is called
// for a value that does not exist; what is returned then means nothing.
template <bool kTemporal, bool kBounded, typename Source>
int32_t debinarise(Source& source, const ContextLayout& layout, const Neighbourhood& n, const Bounds& bounds) {
  if (kBounded && bounds.single) return 0;
  if (!source.bin(significance_context<kTemporal>(n))) return 0;
  bool negative = bounds.implied_negative;
  if (!(kBounded && bounds.sign_implied)) negative = source.bin(sign_context<kTemporal>(n));
  const int64_t limit = kBounded ? (negative ? bounds.negative : bounds.positive) : kUnbounded;
  if (kBounded && limit <= 1) return negative ? -1 : 1;
  int j = 0;
  do {
    const bool more = source.bin(greater_context<kTemporal>(layout, n, negative, j));
    ++j;
    if (!more) return negative ? -j : j;
  } while (j < layout.unary && !(kBounded && limit <= j + 1));
  int64_t size = j + 1;
  if (!(kBounded && limit <= j + 1)) {
    int k = 0;
    int64_t group = 0;
    while (!(kBounded && k > 0 && limit - (j + 1) < group + (int64_t{1} << k))) {
      if (!source.bin(layout.prefix + k)) break;
      group += int64_t{1} << k;
      if (++k >= kPrefixCount) {
        source.fail(Status::kValueOutOfRange);
        return 0;
      }
    }
    size += group + source.bypass(k);
  }
  if (kBounded && size > limit) source.fail(Status::kIndexOutOfRange);
  if (size > int64_t{2147483647} + negative) source.fail(Status::kValueOutOfRange);
  return static_cast<int32_t>(negative ? -size : size);
}

}  // namespace netpress
