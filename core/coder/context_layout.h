// Where the contexts of a tensor stand, and the shorter list of the searches. Source: ISO/IEC 15938-17, arithmetic
// decoding of integers: context variables and their initialisation.
#pragma once

namespace netpress {

// Sizes of the groups. A context is chosen by the state of the trellis, by the integer before (zero, negative,
// positive) or by the base value; the greater-than flags stand in pairs, of which the sign or the base value picks one.
inline constexpr int kStateCount = 8;
inline constexpr int kNeighbourCount = 3;
inline constexpr int kPrefixCount = 31;  // no Exp-Golomb prefix is longer than 30 ones

// Index of each group of contexts for a unary length U.
struct ContextLayout {
  static constexpr int kSignificance = 0;
  static constexpr int kSignificanceTemporal = kSignificance + kStateCount * kNeighbourCount;
  static constexpr int kSignificanceHistory = kSignificanceTemporal + kStateCount * 2;
  static constexpr int kSign = kSignificanceHistory + kStateCount;
  static constexpr int kSignTemporal = kSign + kNeighbourCount;
  static constexpr int kGreater = kSignTemporal + 2;

  explicit constexpr ContextLayout(int unary_length)
      : unary(unary_length),
        greater(kGreater),
        greater_temporal(greater + 2 * unary_length),
        prefix(greater_temporal + 2 * unary_length),
        selection(prefix + kPrefixCount + 3),  // one that NNCodec 1.0 lists as a prefix, and two that nobody uses
        row_skip(selection + 2),               // another unused one lies between
        count(row_skip + 1) {}

  int unary;
  int greater;
  int greater_temporal;
  int prefix;
  int selection;
  int row_skip;
  int count;
};
static_assert(ContextLayout::kSignificanceTemporal == 24 && ContextLayout::kSignificanceHistory == 40 &&
              ContextLayout::kSign == 48 && ContextLayout::kSignTemporal == 51 && ContextLayout::kGreater == 53);
static_assert(ContextLayout(11).prefix == 53 + 4 * 11 && ContextLayout(11).selection == 87 + 4 * 11 &&
              ContextLayout(11).row_skip == 89 + 4 * 11 && ContextLayout(11).count == 90 + 4 * 11);

// The contexts that a tensor without base, history and codebook uses, side by side: searches that keep a set of
// contexts for each survivor move no more than these.
struct CompactContextLayout {
  static constexpr int kSign = kStateCount * kNeighbourCount;
  static constexpr int kGreater = kSign + kNeighbourCount;
  static constexpr int kPrefixes = kPrefixCount + 3;  // as many as above

  explicit constexpr CompactContextLayout(int unary_length)
      : prefix(kGreater + 2 * unary_length), count(prefix + kPrefixes) {}

  int prefix;
  int count;
};
static_assert(CompactContextLayout::kSign == 24 && CompactContextLayout::kGreater == 27 &&
              CompactContextLayout::kPrefixes == 34);

}  // namespace netpress
