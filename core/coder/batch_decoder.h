// Decodes many payloads that do not depend on each other, several of them at a time in each thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "base/status.h"
#include "coder/level_decoder.h"

namespace netpress {

// One tensor of a payload: what is known before, and what decoding found out.
struct BatchPart {
  TensorCoding coding;
  int32_t* levels = nullptr;  // row-major
  int field_bits = 0;         // of the field before the tensor, 0 without one
  // Turns levels into float32 in their place, with the step of field + base_qp.
  bool dequantizes = false;
  int64_t base_qp = 0;
  int qp_density = 0;

  int64_t field = 0;
  DecodedPart decoded;
};

struct BatchUnit {
  const uint8_t* data = nullptr;
  size_t size = 0;
  std::vector<BatchPart> parts;
  Status status = Status::kOk;  // what was decoded before a failure stands in the parts

  int64_t values() const;
};

// The caller owns the memory of data and levels. Units decode exactly as by a PayloadDecoder each.
class BatchDecoder {
 public:
  // Before run(); the reference holds until the next call.
  BatchUnit& add() { return units_.emplace_back(); }

  // Decodes until no unit is left to begin with; several threads may call it at the same time. All units are complete
  // when all these calls have returned.
  void run();

  const std::vector<BatchUnit>& units() const { return units_; }

 private:
  friend class BatchWorker;
  BatchUnit* take();

  std::vector<BatchUnit> units_;
  std::vector<size_t> order_;  // large units first, so that none is left for the end
  std::once_flag ordered_;
  std::atomic<size_t> next_{0};
};

}  // namespace netpress
