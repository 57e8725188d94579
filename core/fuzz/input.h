// How the fuzz targets read their input: parameters from the end, byte by byte, data from what is left at the front. A
// mutation of the data then leaves the parameters alone.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <vector>

#include "coder/tensor_coding.h"

namespace netpress::fuzz {

// Ends the process, so that the fuzzer keeps the input.
[[noreturn]] inline void fail(const char* what) {
  std::fprintf(stderr, "FINDING: %s\n", what);
  std::abort();
}

inline void expect(bool truth, const char* what) {
  if (!truth) fail(what);
}

// Reads parameters from the end and data from the front; both are 0 when nothing is left.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), end_(size) {}

  uint32_t tail8() { return end_ > begin_ ? data_[--end_] : 0u; }
  uint32_t tail16() {
    const uint32_t high = tail8();
    return high << 8 | tail8();
  }
  uint32_t tail32() {
    const uint32_t high = tail16();
    return high << 16 | tail16();
  }

  uint32_t front8() { return begin_ < end_ ? data_[begin_++] : 0u; }
  uint32_t front32() {
    uint32_t word = 0;
    for (int i = 0; i < 4; ++i) word = word << 8 | front8();
    return word;
  }

  // A value that is mostly small: one byte, or an escape byte and four more.
  int32_t front_value() {
    const uint32_t first = front8();
    if (first == 0x80) return static_cast<int32_t>(front32());
    const int32_t value = static_cast<int8_t>(first);
    return value % 2 == 0 ? value / 32 : value;
  }

  size_t left() const { return end_ - begin_; }

  // What has not been read, in memory of its own: the sanitizer sees the first byte beyond it.
  std::vector<uint8_t> rest() const { return std::vector<uint8_t>(data_ + begin_, data_ + end_); }

 private:
  const uint8_t* data_;
  size_t begin_ = 0;
  size_t end_;
};

// What a tensor is coded with, and the arrays that its TensorCoding points to.
struct Tensor {
  TensorCoding coding;
  int field_bits = 0;
  std::vector<int32_t> base;
  std::vector<uint8_t> history;

  int64_t size() const { return coding.geometry.size(); }
};

inline Geometry read_geometry(Input& input, int64_t largest) {
  Geometry g;
  const uint32_t form = input.tail8();
  // Large tensors find little more than small ones, and take long: they are rare.
  const uint32_t size_class = input.tail8();
  largest = std::min<int64_t>(largest, size_class == 255 ? largest : size_class >= 240 ? 4096 : 512);
  g.rows = form & 2 ? input.tail16() : input.tail8();
  g.columns = (form & 3) == 0 ? 1 : (form & 3) == 3 ? input.tail16() : input.tail8();
  g.rows = std::min(g.rows, largest);
  if (g.rows > 0) g.columns = std::min(g.columns, largest / g.rows);
  g.scan_order = static_cast<int>(form >> 2) % 6;  // 5 does not exist
  return g;
}

// A length and as many bytes, repeated over the tensor.
template <typename Value, typename Map>
std::vector<Value> read_pattern(Input& input, int64_t size, Map map) {
  std::vector<Value> pattern(1 + input.tail8());
  for (Value& v : pattern) v = map(static_cast<int8_t>(input.tail8()));
  std::vector<Value> values(static_cast<size_t>(size));
  for (size_t i = 0; i < values.size(); ++i) values[i] = pattern[i % pattern.size()];
  return values;
}

// Reads how one tensor is coded. `valid` leaves out what no encoder may be asked for.
inline void read_tensor(Input& input, int64_t largest, bool valid, Tensor& t) {
  const uint32_t flags = input.tail8();
  TensorCoding& c = t.coding;
  c.geometry = read_geometry(input, largest);
  if (valid) c.geometry.scan_order %= 5;
  c.second_edition = flags & 1;
  c.first_edition_1_0 = flags & 2;
  c.dependent = flags & 4;
  c.has_parent = flags & 8;
  // Long unary parts have long lists of contexts, and are rare like large tensors.
  const uint32_t unary = input.tail8();
  if (unary < 250) {
    c.unary_length = 1 + static_cast<int>(unary) % 20;
  } else {
    c.unary_length = valid ? 1 + static_cast<int>(input.tail8()) : static_cast<int>(input.tail16()) % 259;
  }
  if (flags & 16) {
    t.field_bits = static_cast<int>(input.tail8()) % (valid ? 32 : 33);
    if (valid && t.field_bits == 0) t.field_bits = 13;
  }
  if (flags & 32) {
    c.codebook_size = input.tail16();
    c.codebook_zero_offset = input.tail16();
    if (valid || c.codebook_zero_offset < 0xFF00) {
      if (c.codebook_size > 0) c.codebook_zero_offset %= c.codebook_size;
    }
  }
  if (flags & 64) {
    t.base = read_pattern<int32_t>(input, t.size(), [](int8_t v) -> int32_t {
      if (v == 127) return std::numeric_limits<int32_t>::max();
      if (v == -128) return std::numeric_limits<int32_t>::min();
      return v;
    });
    if (!t.base.empty()) c.base = t.base.data();
  }
  if (flags & 128) {
    t.history = read_pattern<uint8_t>(input, t.size(), [](int8_t v) { return static_cast<uint8_t>(v & 1); });
    if (!t.history.empty()) c.history = t.history.data();
  }
  if (valid && c.second_edition) c.first_edition_1_0 = false;
}

}  // namespace netpress::fuzz
