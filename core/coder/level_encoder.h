// Codes the integers of one tensor after another into one arithmetic codeword. Source: ISO/IEC 15938-17, syntax of the
// compressed data unit payload.
#pragma once

#include <cstdint>
#include <vector>

#include "coder/arithmetic_encoder.h"
#include "coder/tensor_coding.h"
#include "search/context_search.h"

namespace netpress {

// The codeword where the range is restarted: what an entry point is made of once the bits after it are known.
struct EncoderMark {
  uint64_t doublings;
  unsigned low;
  unsigned state;
};

// Throws Failure on what the syntax cannot carry.
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
  bool fast_;
  ArithmeticEncoder coder_;
  std::vector<std::vector<EncoderMark>> marks_;
  std::vector<std::vector<EntryPoint>> entry_points_;
};

// Row y is 1 where all its integers are zero.
std::vector<uint8_t> zero_rows(const int32_t* levels, const Geometry& geometry);

}  // namespace netpress
