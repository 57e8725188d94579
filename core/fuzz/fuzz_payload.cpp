// The payload decoder on any bytes, with any coding parameters: it succeeds or says what failed, writes every value,
// and never reads outside of the payload. The loops for common and for all tensors do the same, and so does a batch, in
// which the bins of several payloads alternate.
#include <memory>

#include "coder/batch_decoder.h"
#include "input.h"

using namespace netpress;
using namespace netpress::fuzz;

namespace {

constexpr int64_t kLargest = 65536;

struct Outcome {
  std::vector<std::vector<int32_t>> levels;
  std::vector<std::vector<EntryPoint>> entry_points;
  Status status = Status::kOk;
  bool failed() const { return status != Status::kOk; }
};

void decode_all(const std::vector<uint8_t>& payload, const std::vector<std::unique_ptr<Tensor>>& tensors, int32_t fill,
                bool fast, Outcome& outcome) {
  PayloadDecoder decoder(payload.data(), payload.size(), fast);
  uint64_t distance = 0;
  for (const auto& tensor : tensors) {
    if (tensor->field_bits != 0) {
      const int64_t value = decoder.field(tensor->field_bits);
      const int64_t half = int64_t{1} << (tensor->field_bits - 1);
      expect(value >= -half && value < half, "a field is outside its width");
    }
    std::vector<int32_t>& out = outcome.levels.emplace_back(static_cast<size_t>(tensor->size()), fill);
    const DecodedPart part = decoder.tensor(out.data(), tensor->coding);
    if (decoder.failed()) break;
    for (const EntryPoint& point : part.entry_points) {
      expect(point.state < 8 && point.value < 256, "an entry point is outside its fields");
      distance += point.distance;
    }
    outcome.entry_points.push_back(part.entry_points);
    expect(tensor->coding.has_parent || !part.history_used, "a history without a parent");
  }
  decoder.finish();
  outcome.status = decoder.status();
  if (decoder.failed()) return;
  // Only now: the decoder may run a few bytes of zeros beyond the end before it notices.
  expect(distance <= 8 * payload.size(), "entry points lie outside the payload");
}

Outcome decode(const std::vector<uint8_t>& payload, const std::vector<std::unique_ptr<Tensor>>& tensors, int32_t fill,
               bool fast) {
  Outcome outcome;
  decode_all(payload, tensors, fill, fast, outcome);
  return outcome;
}

// The payload three times in one batch; its tail is cut off from the last one.
std::vector<Outcome> decode_together(const std::vector<uint8_t>& payload,
                                     const std::vector<std::unique_ptr<Tensor>>& tensors, int32_t fill) {
  constexpr size_t kCopies = 3;
  const std::vector<uint8_t> shorter(payload.begin(), payload.end() - static_cast<std::ptrdiff_t>(payload.size() / 4));
  std::vector<Outcome> outcomes(kCopies);
  BatchDecoder batch;
  for (size_t copy = 0; copy < kCopies; ++copy) {
    const std::vector<uint8_t>& data = copy + 1 < kCopies ? payload : shorter;
    BatchUnit& unit = batch.add();
    unit.data = data.data();
    unit.size = data.size();
    outcomes[copy].levels.reserve(tensors.size());
    for (const auto& tensor : tensors) {
      BatchPart part;
      part.coding = tensor->coding;
      part.levels = outcomes[copy].levels.emplace_back(static_cast<size_t>(tensor->size()), fill).data();
      part.field_bits = tensor->field_bits;
      unit.parts.push_back(part);
    }
  }
  batch.run();
  for (size_t copy = 0; copy < kCopies; ++copy) {
    const BatchUnit& unit = batch.units()[copy];
    outcomes[copy].status = unit.status;
    for (const BatchPart& part : unit.parts) outcomes[copy].entry_points.push_back(part.decoded.entry_points);
  }
  return outcomes;
}

bool has(const std::vector<std::vector<int32_t>>& levels, int32_t value) {
  for (const auto& tensor : levels) {
    if (std::find(tensor.begin(), tensor.end(), value) != tensor.end()) return true;
  }
  return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  std::vector<std::unique_ptr<Tensor>> tensors;
  int64_t left = kLargest;
  const uint32_t count = 1 + input.tail8() % 4;
  for (uint32_t i = 0; i < count; ++i) {
    read_tensor(input, left, false, *tensors.emplace_back(std::make_unique<Tensor>()));
    left -= tensors.back()->size();
  }
  const std::vector<uint8_t> payload = input.rest();
  constexpr int32_t kFill = 0x5EA1ED00;
  const Outcome outcome = decode(payload, tensors, kFill, true);
  if (payload.size() % 4 == 0) {
    const Outcome general = decode(payload, tensors, kFill, false);
    expect(outcome.status == general.status, "the two decoding loops fail differently");
    expect(outcome.failed() || outcome.levels == general.levels, "the two decoding loops give different integers");
    expect(outcome.failed() || outcome.entry_points == general.entry_points, "the two loops differ in entry points");
  }
  if (payload.size() % 4 == 1) {
    const std::vector<Outcome> together = decode_together(payload, tensors, kFill);
    for (size_t copy = 0; copy < 2; ++copy) {
      // With what it fails may differ: beyond the end of a payload both read zeros for a while, not equally long.
      expect(outcome.failed() == together[copy].failed(), "a payload fails in a batch or alone, not in both");
      expect(outcome.failed() || outcome.levels == together[copy].levels, "a batch gives different integers");
      expect(outcome.failed() || outcome.entry_points == together[copy].entry_points,
             "a batch gives other entry points");
    }
  }
  if (!outcome.failed() && has(outcome.levels, kFill)) {
    // A value that the payload says, or one that was never written?
    expect(outcome.levels == decode(payload, tensors, ~kFill, true).levels, "a value was not written");
  }
  return 0;
}
