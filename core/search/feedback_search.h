// One step of the trellis search with error feedback. Every survivor has its own past, hence its own target
// (per-survivor processing). Two versions with equal results; kEncoderKernels has the one to use.
#pragma once

#include <cstdint>

#include "search/frozen_rate_search.h"

namespace netpress {

inline constexpr int kFeedbackDelay = 64;  // decisions younger than this stay open
inline constexpr int kFeedbackBatch = 16;  // so many decisions are made final at a time
inline constexpr int kFeedbackWindow = kFeedbackDelay + kFeedbackBatch;
inline constexpr float kFeedbackUnreachable = 1e30f;

// The eight survivors: lane s has arrived in state s.
struct FeedbackSurvivors {
  alignas(32) float errors[kFeedbackWindow][8];     // weight less level at the open positions, in steps
  alignas(32) int32_t sources[kFeedbackWindow][8];  // state before each open position
  alignas(32) float cost[8];
  alignas(32) int32_t neighbour[8];  // class of the last coded integer: 0 zero, 1 negative, 2 positive
};

// What a step needs to know about its position.
struct FeedbackPosition {
  float weight;            // in steps
  float base;              // the same with the influence of all final errors
  float importance;        // of a squared error
  const float* influence;  // of the `reach` positions before, the oldest first
  int reach;
};

// Extends the survivors by open position number `index` (0..kFeedbackWindow - 1). `rates` may be null.
void feedback_step_scalar(FeedbackSurvivors& survivors, int index, const FeedbackPosition& at,
                          const FrozenRates* rates);

#if defined(__x86_64__)
void feedback_step_avx2(FeedbackSurvivors& survivors, int index, const FeedbackPosition& at, const FrozenRates* rates);
#endif

}  // namespace netpress
