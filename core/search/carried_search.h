// The trellis search with error feedback where the influence of errors is that of narrow blocks of columns and of one
// sum over all columns before: what the means of a layer's inputs do to its outputs. A survivor carries that sum instead
// of its errors, so a weight takes the same time in rows of any length. Two versions with equal results; kEncoderKernels
// has the one to use.
#pragma once

#include <cstdint>

#include "search/frozen_rate_search.h"

namespace netpress {

inline constexpr int kCarriedBlock = 64;  // widest block of columns

// The eight survivors: lane s has arrived in state s.
struct CarriedSurvivors {
  alignas(32) float cost[8];
  alignas(32) int32_t neighbour[8];  // class of the last coded integer: 0 zero, 1 negative, 2 positive
  alignas(32) float carried[8];      // sum of mean * error over the columns before the block under way
  alignas(32) float sum[8];          // the same, with those of the block
  alignas(32) float errors[kCarriedBlock][8];  // at the columns of the block, with what the carried sum adds
};

// Some columns of one row. All arrays begin at column 0.
struct CarriedRun {
  const float* weights;
  float reciprocal;  // of the step
  int64_t first;
  int64_t end;
  int64_t block;
  float row_importance;
  const float* importance;
  const float* mean;
  const float* carry;      // what the carried sum adds to the target of each column
  const float* influence;  // columns x block: [k][i] is that of column k on column i of its block
};

// What was decided at a column.
struct CarriedDecision {
  alignas(32) float level[8];    // by state after
  alignas(32) int32_t source[8];  // state before
};

// Extends the survivors by the columns of a run. `rates` may be null.
void carried_forward_scalar(CarriedSurvivors& survivors, const CarriedRun& run, const FrozenRates* rates,
                            CarriedDecision* decisions);

#if defined(__x86_64__)
void carried_forward_avx2(CarriedSurvivors& survivors, const CarriedRun& run, const FrozenRates* rates,
                          CarriedDecision* decisions);
#endif

}  // namespace netpress
