// The estimators of all parameter sets of a context, run over the bins that the context sees. Two versions with equal
// results; kEncoderKernels has the one to use.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "coder/probability.h"

namespace netpress {

// State of every set, and what all bins so far have cost in it.
class EstimatorBank {
 public:
  EstimatorBank() { restart(); }

  // Back to the initial states; the costs are kept.
  void restart() {
    for (unsigned e = 0; e < kSetCount; ++e) state[e].reset(e);
  }

  std::array<Context, kSetCount> state;
  std::array<uint64_t, kSetCount> cost{};
};

struct BinString {
  EstimatorBank* bank;
  const uint8_t* bins;  // one byte per bin, 0 or 1
  size_t count;
};

// Runs each string through its bank. No bank may occur twice.
void run_estimators_scalar(const BinString* strings, size_t count);

#if defined(__x86_64__)
void run_estimators_avx2(const BinString* strings, size_t count);
#endif

}  // namespace netpress
