// Random tensors with random codings, as an encoder may be asked for them.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "base/failure.h"
#include "coder/level_decoder.h"
#include "coder/level_encoder.h"
#include "coder/trellis.h"

namespace netpress::test {

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  int64_t below(int64_t n) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(n)); }
  int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }
  bool coin(int64_t in = 2) { return below(in) == 0; }

 private:
  std::mt19937_64 engine_;
};

struct RandomTensor {
  TensorCoding coding;
  std::vector<int32_t> levels;
  std::vector<int32_t> base;
  std::vector<uint8_t> history;
  Search search = Search::kOff;
};

// A magnitude: mostly small, sometimes up to 2^30.
inline int64_t random_magnitude(Random& r, int64_t scale) {
  if (r.coin(2)) return 0;
  if (r.coin(200)) return r.below(int64_t{1} << r.between(1, 30));
  int64_t size = 1;
  while (!r.coin(scale) && size < 4 * scale) ++size;
  return r.coin(20) ? size + r.below(40) : size;
}

inline TensorCoding normalised(TensorCoding coding) {
  require(coding.normalise());
  return coding;
}

// The integers that are coded, in scan order, become levels on the path of the state machine.
inline void to_path(RandomTensor& t) {
  const TensorCoding c = normalised(t.coding);
  if (!c.dependent) return;
  std::vector<uint8_t> skipped;
  if (c.has_tool_flags() && c.skip_rows) skipped = zero_rows(t.levels.data(), c.geometry);
  unsigned state = 0;
  for_each_segment(c.geometry, [&](const Segment& s) {
    if (!skipped.empty() && skipped[static_cast<size_t>(s.row)]) {
      state = after_zeros(state, static_cast<uint64_t>(c.geometry.columns));
      return;
    }
    for (int64_t p = s.begin; p < s.end; ++p) {
      int32_t& level = t.levels[static_cast<size_t>(p)];
      const int32_t coded = level;
      level = static_cast<int32_t>(level_from_coded(coded, state));
      state = kNextState[state][coded & 1];
    }
  });
}

// `plain`: without temporal base, history and codebook.
inline RandomTensor random_tensor(Random& r, int64_t largest_edge, bool plain) {
  RandomTensor t;
  TensorCoding& c = t.coding;
  c.geometry.rows = r.coin(20) ? 0 : r.between(1, largest_edge);
  c.geometry.columns = r.coin(4) ? 1 : r.between(1, largest_edge);
  c.geometry.scan_order = r.coin() ? 0 : static_cast<int>(r.below(5));
  c.second_edition = !r.coin(4);
  c.first_edition_1_0 = !c.second_edition && r.coin();
  c.dependent = r.coin();
  c.unary_length = static_cast<int>(r.coin(8) ? r.between(1, 256) : r.between(1, 20));
  c.skip_rows = r.coin();
  t.search = static_cast<Search>(r.below(3));
  const size_t size = static_cast<size_t>(c.geometry.size());
  if (!plain) {
    c.has_parent = r.coin();
    c.use_history = c.has_parent && r.coin();
    if (r.coin()) {
      for (size_t i = 0; i < size; ++i) t.history.push_back(r.coin());
      c.history = t.history.data();
    }
    if (r.coin(3)) {
      for (size_t i = 0; i < size; ++i) t.base.push_back(static_cast<int32_t>(r.coin() ? 0 : r.between(-5, 5)));
      t.base.push_back(0);  // never null
      c.base = t.base.data();
    }
    if (r.coin(3)) {
      c.codebook_size = r.coin(4) ? r.between(1, 300) : r.between(1, 24);
      c.codebook_zero_offset = r.coin(4) ? 0 : r.below(c.codebook_size);
    }
  }
  const int64_t scale = r.coin(4) ? 20 : r.between(1, 4);
  for (int64_t y = 0; y < c.geometry.rows; ++y) {
    const bool zero_row = r.coin(4);
    for (int64_t x = 0; x < c.geometry.columns; ++x) {
      int64_t value = zero_row ? 0 : random_magnitude(r, scale);
      if (r.coin()) value = -value;
      if (c.codebook_size > 0) {
        value = std::clamp(value, -c.codebook_zero_offset, c.codebook_size - 1 - c.codebook_zero_offset);
      }
      t.levels.push_back(static_cast<int32_t>(value));
    }
  }
  to_path(t);
  return t;
}

// Codes `tensors` into one codeword, a field before each.
inline std::vector<uint8_t> encode_all(const std::vector<RandomTensor>& tensors, bool fast,
                                       std::vector<std::vector<EntryPoint>>* points = nullptr) {
  PayloadEncoder encoder(fast);
  for (size_t i = 0; i < tensors.size(); ++i) {
    encoder.field(static_cast<int64_t>(i) - 1, 13);
    encoder.tensor(tensors[i].levels.data(), tensors[i].coding, tensors[i].search);
  }
  std::vector<uint8_t> payload = encoder.finish();
  if (points != nullptr) *points = encoder.entry_points();
  return payload;
}

inline std::string describe(const RandomTensor& t) {
  const TensorCoding& c = t.coding;
  return std::to_string(c.geometry.rows) + "x" + std::to_string(c.geometry.columns) + " scan " +
         std::to_string(c.geometry.scan_order) + " dq " + std::to_string(c.dependent) + " U " +
         std::to_string(c.unary_length) + " codebook " + std::to_string(c.codebook_size) + " search " +
         std::to_string(static_cast<int>(t.search));
}

}  // namespace netpress::test
