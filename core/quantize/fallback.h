// The qp that a tensor gets when its levels would leave 32 bits at the qp that was asked for.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/failure.h"
#include "quantize/quantizers.h"

namespace netpress {

inline int64_t raised_qp(const float* weights, int64_t count, int qp_density) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(weights[i]));
  const double k = static_cast<double>(int64_t{1} << qp_density);
  const double scaled = static_cast<double>(largest) / 2147483645.0;
  const float octave = static_cast<float>(std::floor(std::log2(scaled)) * k);
  const float exponent = static_cast<float>(static_cast<double>(octave) / k);
  const double inner = static_cast<double>(octave) + (scaled * k / std::pow(2.0, static_cast<double>(exponent)) - k);
  return static_cast<int64_t>(std::ceil(static_cast<float>(inner)));
}

// Runs attempt(qp) -> bool, and once more with the raised qp if it fails.
template <typename Attempt>
int64_t quantize_with_fallback(const float* weights, const QuantizerSettings& settings, int64_t qp, Attempt&& attempt) {
  if (attempt(qp)) return qp;
  const int64_t raised = raised_qp(weights, settings.geometry.size(), settings.qp_density);
  if (!attempt(raised)) throw Failure(Status::kLevelOutOfRange);
  return raised;
}

}  // namespace netpress
