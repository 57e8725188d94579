// Quantisation with error feedback: each weight's target takes up what the weights before it in its row got wrong, so
// that the outputs of the layer keep their values, not the weights.
#pragma once

#include <cstdint>

#include "search/frozen_rate_search.h"

namespace netpress {

// The quadratic form of a layer, factored. With e the errors of a row in steps, the row costs
//   sum over columns j of importance[j] * (e[j] + sum over k before j of influence[k][j] * e[k])^2
// times its row importance. Derivation: docs/notes/calibrated-quantisation.md.
struct FeedbackForm {
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t groups = 1;  // equal runs of rows with a form of their own; divides `rows`
  int64_t block = 0;   // columns of different blocks of this width do not influence each other
  // groups x columns x block: [g][k][i] is the influence of column k on column i of its block; only i > k is read.
  const float* influence = nullptr;
  const float* importance = nullptr;      // groups x columns, at least 0
  const float* row_importance = nullptr;  // rows, at least 0; null: all 1
  const float* targets = nullptr;         // weights with the influence of errors elsewhere; null: the weights
  // groups x columns, both or none: errors also influence the columns of later blocks, through the sum of mean[k] * e[k]
  // over the columns k of the blocks before, which adds carry[j] times itself to the error of column j in its block. What
  // inputs do whose means are not zero. With the trellis, blocks are then at most kCarriedBlock wide, and there are
  // neither targets nor influences of rows.
  const float* mean = nullptr;
  const float* carry = nullptr;
  // rows x row_block: [k][i] is the influence of row k on row i of its block of rows, where the outputs of rows matter
  // jointly; only i > k is read. The error of a row in the cost above is then e[r] + sum over k before r of
  // row_influence[k][r] * e[k]. Null: rows do not influence each other. For one group.
  const float* row_influence = nullptr;
  int64_t row_block = 0;
};

struct FeedbackSettings {
  float reciprocal = 1;                // of the step
  bool dependent = false;              // a path of the 8-state trellis, else uniform
  const FrozenRates* rates = nullptr;  // bits times lambda in the units of the form; null: without a rate
  int start_state = 0;                 // of the trellis
  int end_state = -1;                  // -1: any
  bool scalar = false;                 // the scalar twin of the search; the result is the same
};

// Levels above this are not searched for: single precision has no room for the errors of larger ones.
inline constexpr float kLargestFeedbackLevel = 1048576.0f;

// Fills `levels`, row-major, and returns the state of the trellis after the last one (0 if not dependent). Throws
// kLevelOutOfRange where a weight is above kLargestFeedbackLevel steps, kBadParameter where the end state cannot be
// reached.
int quantize_feedback(const float* weights, int32_t* levels, const FeedbackForm& form,
                      const FeedbackSettings& settings);

}  // namespace netpress
