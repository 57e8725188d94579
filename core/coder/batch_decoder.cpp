#include "coder/batch_decoder.h"

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>

#include "coder/decoder_kernels.h"
#include "coder/interleaved_runs.h"
#include "quantize/dequantize.h"

namespace netpress {

namespace {

constexpr int64_t kLeastValues = 64;  // shorter tensors do not pay for a place in the loop
constexpr int64_t kLeastRounds = 2;

// Machines by dq_flag and unary length.
class Machines {
 public:
  const BinMachine& get(const TensorCoding& coding) {
    std::unique_ptr<BinMachine>& machine = machines_[{coding.dependent, coding.unary_length}];
    if (machine == nullptr) machine = std::make_unique<BinMachine>(coding.dependent, coding.unary_length);
    return *machine;
  }

 private:
  std::map<std::pair<bool, int>, std::unique_ptr<BinMachine>> machines_;
};

// A unit on its way.
struct Slot {
  BatchUnit* unit = nullptr;
  size_t part = 0;
  std::optional<PayloadDecoder> decoder;
  OpenTensor opened;
  Lane lane;
};

}  // namespace

int64_t BatchUnit::values() const {
  int64_t sum = 0;
  for (const BatchPart& part : parts) sum += part.coding.geometry.size();
  return sum;
}

// One thread's share of a batch.
class BatchWorker {
 public:
  explicit BatchWorker(BatchDecoder& batch) : batch_(batch) {}

  void run() {
    for (Slot& slot : slots_) {
      if (!begin(slot)) break;
    }
    while (turn()) {
    }
  }

 private:
  // Runs all lanes as far as none of them comes near an end; false when no unit is left.
  bool turn() {
    std::array<Slot*, kMostLanes> busy;
    std::array<Lane*, kMostLanes> lanes;
    int count = 0;
    for (Slot& slot : slots_) {
      if (slot.unit == nullptr) continue;
      busy[static_cast<size_t>(count)] = &slot;
      lanes[static_cast<size_t>(count++)] = &slot.lane;
    }
    if (count == 0) return false;
    int64_t rounds = count == 1 ? 0 : lanes[0]->rounds();
    for (int i = 1; i < count; ++i) rounds = std::min(rounds, lanes[static_cast<size_t>(i)]->rounds());
    if (rounds >= kLeastRounds) kDecoderKernels.run_lanes(lanes.data(), count, rounds);
    for (int i = 0; i < count; ++i) {
      Slot& slot = *busy[static_cast<size_t>(i)];
      if (rounds >= kLeastRounds && slot.lane.has_escaped) slot.lane.escape();
      const bool alone = count == 1 || slot.lane.rounds() < kLeastRounds || escapes_often(slot.lane);
      if (!ends_by_failure(slot) && alone) finish_tensor(slot);
      if (slot.unit == nullptr) begin(slot);
    }
    return true;
  }

  // Leaving the loop for every few weights costs more than it wins.
  static bool escapes_often(const Lane& lane) { return lane.escapes >= 8 && lane.escapes * 64 > lane.decoded(); }

  // Begins with the next unit that has something to run; false if there is none.
  bool begin(Slot& slot) {
    slot.unit = nullptr;
    while (slot.unit == nullptr) {
      BatchUnit* const unit = batch_.take();
      if (unit == nullptr) return false;
      slot.unit = unit;
      slot.part = 0;
      slot.decoder.emplace(unit->data, unit->size);
      proceed(slot);
    }
    return true;
  }

  // Decodes up to the next tensor that the loop can take, or to the end of the unit, which then leaves the slot.
  void proceed(Slot& slot) {
    for (; slot.part < slot.unit->parts.size(); ++slot.part) {
      BatchPart& part = slot.unit->parts[slot.part];
      if (part.field_bits > 0) part.field = slot.decoder->field(part.field_bits);
      slot.opened = slot.decoder->open(part.coding);
      if (ends_by_failure(slot)) return;
      const int64_t size = part.coding.geometry.size();
      if (slot.opened.is_single_run() && size >= kLeastValues) {
        slot.lane.start(slot.decoder->coder(), slot.opened.contexts.data(), machines_.get(slot.opened.coding),
                        part.levels, size);
        return;
      }
      slot.decoder->weights(part.levels, slot.opened);
      if (ends_by_failure(slot)) return;
      close(slot, part);
    }
    slot.decoder->finish();
    if (!ends_by_failure(slot)) slot.unit = nullptr;
  }

  void finish_tensor(Slot& slot) {
    slot.lane.finish();
    if (ends_by_failure(slot)) return;
    close(slot, slot.unit->parts[slot.part]);
    ++slot.part;
    proceed(slot);
  }

  static void close(Slot& slot, BatchPart& part) {
    part.decoded = std::move(slot.opened.part);
    if (!part.dequantizes) return;
    const float step = static_cast<float>(step_size(part.base_qp + part.field, part.qp_density));
    dequantize_uniform(part.levels, part.levels, part.coding.geometry.size(), step);
  }

  // A failure ends its unit and no other.
  static bool ends_by_failure(Slot& slot) {
    if (!slot.decoder->failed()) return false;
    slot.unit->status = slot.decoder->status();
    slot.unit = nullptr;
    return true;
  }

  BatchDecoder& batch_;
  Machines machines_;
  std::array<Slot, kMostLanes> slots_;
};

BatchUnit* BatchDecoder::take() {
  const size_t i = next_.fetch_add(1, std::memory_order_relaxed);
  return i < order_.size() ? &units_[order_[i]] : nullptr;
}

void BatchDecoder::run() {
  std::call_once(ordered_, [this] {
    order_.resize(units_.size());
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::stable_sort(order_.begin(), order_.end(),
                     [this](size_t a, size_t b) { return units_[a].values() > units_[b].values(); });
  });
  BatchWorker(*this).run();
}

}  // namespace netpress
