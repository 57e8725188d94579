#include "coder/level_decoder.h"

#include <algorithm>
#include <utility>

#include "coder/decoder_kernels.h"

namespace netpress {

namespace {

struct DecodingSource {
  ArithmeticDecoder& coder;
  Context* contexts;
  bool bin(int index) { return coder.bin(contexts[index]); }
  uint32_t bypass(int count) { return coder.bypass(count); }
  void fail(Status status) { coder.fail(status); }
};

// The decoder's side of walk_weights().
class WeightDecoder {
 public:
  WeightDecoder(ArithmeticDecoder& coder, int32_t* levels, OpenTensor& opened, bool fast)
      : coder_(coder),
        levels_(levels),
        coding_(opened.coding),
        contexts_(opened.contexts),
        part_(opened.part),
        layout_(coding_.unary_length),
        bounds_(coding_.bounds()),
        base_(coding_.temporal() ? coding_.base : nullptr),
        history_(part_.history_used ? coding_.history : nullptr),
        plain_(fast && coding_.is_plain(part_.history_used)) {}

  void begin(const Neighbourhood&) {
    if (!coding_.restarts_range()) return;
    coder_.restart_range();
    row_start_ = coder_.doublings();
  }

  void skip(const Segment& s) { std::fill(levels_ + s.begin, levels_ + s.end, 0); }

  void weights(const Segment& s, Neighbourhood& n) {
    if (plain_) {
      kDecoderKernels.decode_run(coder_, contexts_.data(), layout_, coding_.dependent, levels_ + s.begin,
                                 s.end - s.begin, n);
      return;
    }
    DecodingSource source{coder_, contexts_.data()};
    for (int64_t p = s.begin; p < s.end && !coder_.failed(); ++p) {
      if (base_ != nullptr) n.base = base_[p];
      if (history_ != nullptr) n.history = history_[p] != 0;
      const int32_t value = debinarise<true, true>(source, layout_, n, bounds_);
      n.previous = value;
      if (coding_.dependent) {
        const int64_t level = level_from_coded(value, n.state);
        if (level != static_cast<int32_t>(level)) coder_.fail(Status::kValueOutOfRange);
        levels_[p] = static_cast<int32_t>(level);
        n.state = kNextState[n.state][value & 1];
      } else {
        levels_[p] = value;
      }
    }
  }

  void end_block_row(Neighbourhood& n) {
    if (failed()) return;
    for (Context& c : contexts_) c.restart();
    n = Neighbourhood{0, 0, false, n.state};
    coder_.restart_range();
    const uint64_t now = coder_.doublings();
    part_.entry_points.push_back({now - row_start_, coder_.window(), n.state});
    row_start_ = now;
  }

  bool failed() const { return coder_.failed(); }

 private:
  ArithmeticDecoder& coder_;
  int32_t* levels_;
  const TensorCoding& coding_;
  std::vector<Context>& contexts_;
  DecodedPart& part_;
  ContextLayout layout_;
  Bounds bounds_;
  const int32_t* base_;
  const uint8_t* history_;
  bool plain_;
  uint64_t row_start_ = 0;
};

}  // namespace

int64_t PayloadDecoder::field(int bits) {
  if (bits < 0 || bits > 31) coder_.fail(Status::kBadParameter);
  if (failed() || bits == 0) return 0;
  const int64_t raw = coder_.bypass(bits);
  return raw >> (bits - 1) ? raw - (int64_t{1} << bits) : raw;
}

DecodedPart PayloadDecoder::tensor(int32_t* levels, const TensorCoding& coding) {
  OpenTensor opened = open(coding);
  weights(levels, opened);
  return std::move(opened.part);
}

OpenTensor PayloadDecoder::open(const TensorCoding& given) {
  OpenTensor opened{given, {}, {}, {}};
  TensorCoding& coding = opened.coding;
  Status status = coding.normalise();
  if (status == Status::kOk && coding.unary_length < 1) status = Status::kBadParameter;
  if (status != Status::kOk) coder_.fail(status);
  if (failed()) return opened;
  opened.contexts = fresh_contexts(coding.unary_length);
  if (coding.has_tool_flags()) read_flags(opened);
  if (!opened.part.history_used) coding.history = nullptr;
  if (!failed()) read_sets(opened);
  return opened;
}

void PayloadDecoder::read_flags(OpenTensor& opened) {
  DecodedPart& part = opened.part;
  if (opened.coding.has_parent) part.history_used = coder_.bypass(1) != 0;
  part.rows_skipped = coder_.bypass(1) != 0;
  if (!part.rows_skipped) return;
  Context& row_skip = opened.contexts[static_cast<size_t>(ContextLayout(opened.coding.unary_length).row_skip)];
  // Grown as the flags arrive: the row count is only what a header claims.
  for (int64_t y = 0; y < opened.coding.geometry.rows && !failed(); ++y) opened.skipped.push_back(coder_.bin(row_skip));
}

void PayloadDecoder::read_sets(OpenTensor& opened) {
  const ContextLayout layout(opened.coding.unary_length);
  std::vector<Context>& contexts = opened.contexts;
  Context& selection = contexts[static_cast<size_t>(layout.selection)];
  for_each_listed_context(opened.coding, opened.part.history_used, [&](int index, bool signalled) {
    unsigned set = 0;
    if (signalled && coder_.bin(selection)) set = 1 + coder_.bypass(3);
    // The 32nd prefix context of the first edition is never used, so no encoder selects a set for it.
    if (set != 0 && index == layout.prefix + kPrefixCount) coder_.fail(Status::kReservedFlag);
    contexts[static_cast<size_t>(index)].reset(set);
  });
}

void PayloadDecoder::weights(int32_t* levels, OpenTensor& opened) {
  if (failed()) return;
  WeightDecoder decoder(coder_, levels, opened, fast_);
  walk_weights(opened.coding, opened.skipped, decoder);
}

}  // namespace netpress
