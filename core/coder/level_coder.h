// Codes the integers of one tensor after another into one arithmetic codeword, and back.
#pragma once

#include <cstdint>
#include <vector>

#include "coder/arithmetic_coder.h"
#include "coder/contexts.h"
#include "coder/scan.h"

namespace netpress {

// Everything besides the integers that decides how a tensor is coded.
struct TensorCoding {
  Geometry geometry;
  bool second_edition = true;   // general_profile_idc 1
  bool first_edition_1_0 = false;  // profile-0 payloads of NNCodec 1.0: one more listed context, early range restart
  bool dependent = false;       // dq_flag
  int unary_length = 11;        // cabac_unary_length_minus1 + 1
  bool has_parent = false;      // parent_node_id_present_flag
  bool skip_rows = false;       // encoder: row_skip_flag
  bool use_history = false;     // encoder: hdsp_flag
  const uint8_t* history = nullptr;  // 1 where an earlier update was not zero; null counts as all zero
  const int32_t* base = nullptr;     // integers of the previous update, for temporal contexts
  int64_t codebook_size = 0;
  int64_t codebook_zero_offset = 0;

  // Throws kBadParameter on what no header can carry; forces scan order 0 where the standard does. A unary length of 0
  // passes: no payload has it, but NNCodec's codebook search measures with it.
  void normalise();

  // The codebook only bounds magnitudes in the second edition.
  int64_t bounding_codebook() const { return second_edition ? codebook_size : 0; }
  Bounds bounds() const { return Bounds::codebook(bounding_codebook(), codebook_zero_offset); }
  bool has_tool_flags() const { return second_edition && geometry.matrix_like() && codebook_size != 1; }
  bool temporal() const { return base != nullptr && second_edition; }
  bool restarts_range() const {
    return geometry.block_rows() > 1 || (first_edition_1_0 && geometry.scan_order > 0);
  }
  // Nothing depends on base, history or codebook: the specialised loops apply.
  bool is_plain(bool history_in_use) const { return base == nullptr && !history_in_use && bounding_codebook() == 0; }
};

// Calls visit(context index, signalled) for every context of the parameter-set list, in coding order.
template <typename Visit>
void for_each_listed_context(const TensorCoding& c, bool history_in_use, Visit&& visit) {
  const ContextLayout layout(c.unary_length);
  const int64_t size = c.bounding_codebook();
  const bool several = size != 1;
  auto span = [&](int first, int count, bool signalled) {
    for (int i = 0; i < count; ++i) visit(first + i, signalled);
  };
  span(ContextLayout::kSignificance, c.dependent ? 24 : 3, several);
  if (c.base != nullptr) span(ContextLayout::kSignificanceTemporal, c.dependent ? 16 : 2, several);
  if (history_in_use) span(ContextLayout::kSignificanceHistory, c.dependent ? 8 : 1, several);
  span(ContextLayout::kSign, c.base != nullptr ? 5 : 3, !c.bounds().sign_implied);
  const int64_t largest = std::max(c.codebook_zero_offset, size - 1 - c.codebook_zero_offset);
  for (int a = 0; a < 2 * c.unary_length; ++a) visit(layout.greater + a, size == 0 || a < 2 * largest);
  if (c.base != nullptr) {
    for (int a = 0; a < 2 * c.unary_length; ++a) {
      visit(layout.greater_temporal + a, size == 0 || a < 2 * (largest - 1));
    }
  }
  const int prefixes = c.first_edition_1_0 ? 32 : 31;
  for (int a = 0; a < prefixes; ++a) {
    visit(layout.prefix + a, size == 0 || c.unary_length - 2 + (int64_t{2} << a) < largest);
  }
}

// Start of a block row: distance in bits from the previous one, decoder register and trellis state.
struct EntryPoint {
  uint64_t distance;
  unsigned value;
  unsigned state;
  bool operator==(const EntryPoint&) const = default;
};

enum class Search { kOff, kReference, kBest };

class PayloadEncoder {
 public:
  // `fast` false: the general loop for every tensor, against which tests compare.
  explicit PayloadEncoder(bool fast = true) : fast_(fast) {}

  // A `bits` wide two's complement field of bypass bins (the qp of a tensor).
  void field(int64_t value, int bits);

  // Codes `levels` (row-major). kBest searches parameter sets on the real bins, kReference as NNCodec does.
  void tensor(const int32_t* levels, TensorCoding coding, Search search);

  std::vector<uint8_t> finish();

  // After finish(): the entry points of each tensor coded, in order.
  const std::vector<std::vector<EntryPoint>>& entry_points() const { return entry_points_; }

 private:
  struct Mark {
    uint64_t doublings;
    unsigned low;
    unsigned state;
  };

  void weights(const int32_t* levels, const TensorCoding& coding, const std::vector<uint8_t>& skipped,
               std::vector<Context>& contexts);
  Mark mark(unsigned state) const { return {coder_.doublings(), coder_.low_window(), state}; }

  bool fast_;
  ArithmeticEncoder coder_;
  std::vector<std::vector<Mark>> marks_;
  std::vector<std::vector<EntryPoint>> entry_points_;
};

// What a decoded tensor part says besides the integers.
struct DecodedPart {
  bool history_used = false;
  bool rows_skipped = false;
  std::vector<EntryPoint> entry_points;  // as observed while decoding
};

// A tensor whose flags and parameter sets have been read, up to its first weight.
struct OpenTensor {
  TensorCoding coding;  // normalised
  std::vector<Context> contexts;
  std::vector<uint8_t> skipped;  // by row; empty if no row is
  DecodedPart part;

  // Its weights follow each other without a break and depend on nothing else.
  bool is_single_run() const {
    return coding.is_plain(part.history_used) && coding.geometry.scan_order == 0 && skipped.empty();
  }
};

class PayloadDecoder {
 public:
  PayloadDecoder(const uint8_t* data, size_t size, bool fast = true) : fast_(fast), coder_(data, size) {}

  int64_t field(int bits);

  // Decodes one tensor into `levels` (row-major, every position is written).
  DecodedPart tensor(int32_t* levels, const TensorCoding& coding);

  // The same in two steps.
  OpenTensor open(const TensorCoding& coding);
  void weights(int32_t* levels, OpenTensor& opened);

  ArithmeticDecoder& coder() { return coder_; }

  // Terminating bin, stop pattern, length.
  void finish() { coder_.finish(); }

 private:
  bool fast_;
  ArithmeticDecoder coder_;
};

// Row y is 1 where all its integers are zero.
std::vector<uint8_t> zero_rows(const int32_t* levels, const Geometry& geometry);

}  // namespace netpress
