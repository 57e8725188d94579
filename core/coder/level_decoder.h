// Decodes the integers of one tensor after another from one arithmetic codeword. Source: ISO/IEC 15938-17, syntax of
// the compressed data unit payload; decoding process of integers.
//
// No exceptions: the first failure is kept in status(), and calls after it are safe but do nothing useful. What was
// decoded up to then is not to be used.
#pragma once

#include <cstdint>
#include <vector>

#include "coder/arithmetic_decoder.h"
#include "coder/tensor_coding.h"

namespace netpress {

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
  // `fast` false: the general loop for every tensor, against which tests compare.
  PayloadDecoder(const uint8_t* data, size_t size, bool fast = true) : fast_(fast), coder_(data, size) {}

  Status status() const { return coder_.status(); }
  bool failed() const { return coder_.failed(); }

  // A `bits` wide two's complement field of bypass bins. Source: ISO/IEC 15938-17, descriptor iae(v).
  int64_t field(int bits);

  // Decodes one tensor into `levels` (row-major, every position is written unless there is a failure).
  DecodedPart tensor(int32_t* levels, const TensorCoding& coding);

  // The same in two steps.
  OpenTensor open(const TensorCoding& coding);
  void weights(int32_t* levels, OpenTensor& opened);

  ArithmeticDecoder& coder() { return coder_; }

  // Terminating bin, stop pattern, length.
  void finish() { coder_.finish(); }

 private:
  void read_flags(OpenTensor& opened);
  void read_sets(OpenTensor& opened);

  bool fast_;
  ArithmeticDecoder coder_;
};

}  // namespace netpress
