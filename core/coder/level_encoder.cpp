#include "coder/level_encoder.h"

#include <algorithm>

#include "base/bits.h"
#include "base/failure.h"
#include "coder/run_encoder.h"
#include "search/encoder_kernels.h"

namespace netpress {

namespace {

struct EncodingSink {
  ArithmeticEncoder& coder;
  Context* contexts;
  void bin(int index, bool value) { coder.bin(contexts[index], value); }
  void bypass(uint32_t bits, int count) { coder.bypass(bits, count); }
};

// The encoder's side of walk_weights().
class WeightEncoder {
 public:
  WeightEncoder(ArithmeticEncoder& coder, const int32_t* levels, const TensorCoding& coding,
                std::vector<Context>& contexts, bool fast, std::vector<EncoderMark>& marks)
      : coder_(coder),
        levels_(levels),
        coding_(coding),
        contexts_(contexts),
        marks_(marks),
        layout_(coding.unary_length),
        bounds_(coding.bounds()),
        base_(coding.temporal() ? coding.base : nullptr),
        // The run encoder knows no unary length of 0, with which NNCodec's codebook search measures.
        plain_(fast && coding.is_plain(coding.use_history) && coding.unary_length > 0) {}

  void begin(const Neighbourhood& n) {
    if (coding_.restarts_range()) restart_range(n);
  }

  void skip(const Segment&) {}

  void weights(const Segment& s, Neighbourhood& n) {
    if (plain_) {
      kEncoderKernels.encode_run(coder_, contexts_.data(), layout_, coding_.dependent, levels_ + s.begin,
                                 s.end - s.begin, n);
      return;
    }
    EncodingSink sink{coder_, contexts_.data()};
    for (int64_t p = s.begin; p < s.end; ++p) {
      if (base_ != nullptr) n.base = base_[p];
      if (coding_.history != nullptr) n.history = coding_.history[p] != 0;
      const int32_t value = coding_.dependent ? coded_from_level(levels_[p], n.state) : levels_[p];
      binarise<true, true>(sink, layout_, n, bounds_, value);
      n.previous = value;
      if (coding_.dependent) n.state = kNextState[n.state][value & 1];
    }
  }

  void end_block_row(Neighbourhood& n) {
    for (Context& c : contexts_) c.restart();
    n = Neighbourhood{0, 0, false, n.state};
    restart_range(n);
  }

  bool failed() const { return false; }

 private:
  void restart_range(const Neighbourhood& n) {
    coder_.restart_range();
    marks_.push_back({coder_.doublings(), coder_.low_window(), n.state});
  }

  ArithmeticEncoder& coder_;
  const int32_t* levels_;
  const TensorCoding& coding_;
  std::vector<Context>& contexts_;
  std::vector<EncoderMark>& marks_;
  ContextLayout layout_;
  Bounds bounds_;
  const int32_t* base_;
  bool plain_;
};

}  // namespace

std::vector<uint8_t> zero_rows(const int32_t* levels, const Geometry& g) {
  std::vector<uint8_t> zero(static_cast<size_t>(g.rows));
  for (int64_t y = 0; y < g.rows; ++y) {
    const int32_t* row = levels + y * g.columns;
    zero[static_cast<size_t>(y)] = std::all_of(row, row + g.columns, [](int32_t v) { return v == 0; });
  }
  return zero;
}

void PayloadEncoder::field(int64_t value, int bits) {
  if (bits < 0 || bits > 31) throw Failure(Status::kBadParameter);
  if (bits == 0 && value == 0) return;
  if (bits == 0 || value < -(int64_t{1} << (bits - 1)) || value >= int64_t{1} << (bits - 1)) {
    throw Failure(Status::kLevelOutOfRange);
  }
  coder_.bypass(static_cast<uint32_t>(value) & ((1u << bits) - 1), bits);
}

void PayloadEncoder::tensor(const int32_t* levels, TensorCoding coding, Search search) {
  require(coding.normalise());
  std::vector<Context> contexts = fresh_contexts(coding.unary_length);
  const ContextLayout layout(coding.unary_length);
  std::vector<uint8_t> skipped;
  bool history_in_use = false;
  if (coding.has_tool_flags()) {
    if (coding.has_parent) {
      coder_.bypass(coding.use_history, 1);
      history_in_use = coding.use_history;
    }
    coder_.bypass(coding.skip_rows, 1);
    if (coding.skip_rows) {
      skipped = zero_rows(levels, coding.geometry);
      for (uint8_t zero : skipped) coder_.bin(contexts[static_cast<size_t>(layout.row_skip)], zero);
    }
  }
  coding.use_history = history_in_use;
  if (!history_in_use) coding.history = nullptr;

  const std::vector<uint8_t> sets = choose_sets(levels, coding, skipped, search);
  Context& selection = contexts[static_cast<size_t>(layout.selection)];
  for_each_listed_context(coding, history_in_use, [&](int index, bool signalled) {
    const unsigned set = signalled ? sets[static_cast<size_t>(index)] : 0;
    if (signalled) {
      coder_.bin(selection, set != 0);
      if (set != 0) coder_.bypass(set - 1, 3);
    }
    contexts[static_cast<size_t>(index)].reset(set);
  });

  WeightEncoder weights(coder_, levels, coding, contexts, fast_, marks_.emplace_back());
  walk_weights(coding, skipped, weights);
}

std::vector<uint8_t> PayloadEncoder::finish() {
  std::vector<uint8_t> payload = coder_.finish();
  const ByteWindow window(payload.data(), payload.size());
  for (const std::vector<EncoderMark>& marks : marks_) {
    std::vector<EntryPoint>& points = entry_points_.emplace_back();
    for (size_t i = 1; i < marks.size(); ++i) {
      const uint64_t n = marks[i].doublings;
      const unsigned nine = window.read32(n / 8) >> (23 - n % 8) & 511;
      points.push_back({n - marks[i - 1].doublings, (nine - marks[i].low) & 511, marks[i].state});
    }
  }
  return payload;
}

}  // namespace netpress
