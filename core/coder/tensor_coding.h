// How the integers of a tensor are coded, as far as encoder and decoder share it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/status.h"
#include "coder/contexts.h"
#include "coder/scan.h"
#include "coder/trellis.h"

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

  // kBadParameter for what no header can carry; forces scan order 0 where the standard does. A unary length of 0
  // is accepted: no payload has it, but NNCodec's codebook search measures with it.
  [[nodiscard]] Status normalise();

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

// Calls visit(context index, signalled) for every context of the parameter-set list, in coding order. Source: ISO/IEC
// 15938-17, signalling of the parameter sets of the probability estimators.
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

// Start of a block row: distance in bits from the previous one, decoder register and trellis state. Source: ISO/IEC
// 15938-17, entry points.
struct EntryPoint {
  uint64_t distance;
  unsigned value;
  unsigned state;
  bool operator==(const EntryPoint&) const = default;
};

// The contexts of a tensor before its first bin.
std::vector<Context> fresh_contexts(int unary_length);

// The walk over the weights of a tensor that the encoder, the decoder and the parameter-set search take. Side has
//   begin(n)            before the first weight
//   skip(segment)       for the segments of skipped rows
//   weights(segment, n) for the others; leaves `n` as it is after the segment
//   end_block_row(n)    after the last segment of a block row but the last one
//   failed()            whether the walk ends
// Source: ISO/IEC 15938-17, decoding process of quantised weights: row skipping, block rows.
// `skipped` is empty or 1 for each row that is not coded.
template <typename Side>
void walk_weights(const TensorCoding& coding, const std::vector<uint8_t>& skipped, Side& side) {
  Neighbourhood n;
  side.begin(n);
  for_each_segment(coding.geometry, [&](const Segment& s) {
    if (side.failed()) return false;
    if (!skipped.empty() && skipped[static_cast<size_t>(s.row)]) {
      side.skip(s);
      // Once per segment, with the full row length: also in a block scan.
      if (coding.dependent) n.state = after_zeros(n.state, static_cast<uint64_t>(coding.geometry.columns));
    } else {
      side.weights(s, n);
    }
    if (s.closes_block_row) side.end_block_row(n);
    return true;
  });
}

}  // namespace netpress
