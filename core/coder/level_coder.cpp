#include "coder/level_coder.h"

#include "search/context_search.h"
#include "coder/run_coder.h"
#include "coder/trellis.h"

namespace netpress {

namespace {

struct EncodingSink {
  ArithmeticEncoder& coder;
  Context* contexts;
  void bin(int index, bool value) { coder.bin(contexts[index], value); }
  void bypass(uint32_t bits, int count) { coder.bypass(bits, count); }
};

struct DecodingSource {
  ArithmeticDecoder& coder;
  Context* contexts;
  bool bin(int index) { return coder.bin(contexts[index]); }
  uint32_t bypass(int count) { return coder.bypass(count); }
};

void restart_all(std::vector<Context>& contexts) {
  for (Context& c : contexts) c.restart();
}

std::vector<Context> fresh_contexts(int unary_length) {
  std::vector<Context> contexts(static_cast<size_t>(ContextLayout(unary_length).count));
  for (Context& c : contexts) c.reset(0);
  return contexts;
}

}  // namespace

void TensorCoding::normalise() {
  if (!geometry.matrix_like()) {
    geometry.scan_order = 0;
    // A vector is one long row: the same order, one segment.
    geometry.columns = geometry.size();
    geometry.rows = 1;
  }
  if (geometry.scan_order < 0 || geometry.scan_order > 4 || unary_length < 0 || unary_length > 256) {
    throw Failure(Status::kBadParameter);
  }
  if (codebook_size < 0 || (codebook_size > 0 && (codebook_zero_offset < 0 || codebook_zero_offset >= codebook_size))) {
    throw Failure(Status::kBadParameter);
  }
}

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
  coding.normalise();
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

  marks_.emplace_back();
  weights(levels, coding, skipped, contexts);
}

void PayloadEncoder::weights(const int32_t* levels, const TensorCoding& coding, const std::vector<uint8_t>& skipped,
                             std::vector<Context>& contexts) {
  const ContextLayout layout(coding.unary_length);
  const Bounds bounds = coding.bounds();
  const int32_t* base = coding.temporal() ? coding.base : nullptr;
  const bool plain = fast_ && coding.is_plain(coding.use_history) && coding.unary_length > 0;
  EncodingSink sink{coder_, contexts.data()};
  Neighbourhood n;
  if (coding.restarts_range()) {
    coder_.restart_range();
    marks_.back().push_back(mark(n.state));
  }
  for_each_segment(coding.geometry, [&](const Segment& s) {
    if (!skipped.empty() && skipped[static_cast<size_t>(s.row)]) {
      // Once per segment, with the full row length: also in a block scan.
      if (coding.dependent) n.state = after_zeros(n.state, static_cast<uint64_t>(coding.geometry.columns));
    } else if (plain) {
      encode_plain(coder_, contexts.data(), layout, coding.dependent, levels + s.begin, s.end - s.begin, n);
    } else {
      for (int64_t p = s.begin; p < s.end; ++p) {
        if (base != nullptr) n.base = base[p];
        if (coding.history != nullptr) n.history = coding.history[p] != 0;
        const int32_t value = coding.dependent ? coded_from_level(levels[p], n.state) : levels[p];
        binarise<true, true>(sink, layout, n, bounds, value);
        n.previous = value;
        if (coding.dependent) n.state = kNextState[n.state][value & 1];
      }
    }
    if (s.closes_block_row) {
      restart_all(contexts);
      n = Neighbourhood{0, 0, false, n.state};
      coder_.restart_range();
      marks_.back().push_back(mark(n.state));
    }
  });
}

std::vector<uint8_t> PayloadEncoder::finish() {
  std::vector<uint8_t> payload = coder_.finish();
  const ByteWindow window(payload.data(), payload.size());
  for (const std::vector<Mark>& marks : marks_) {
    std::vector<EntryPoint>& points = entry_points_.emplace_back();
    for (size_t i = 1; i < marks.size(); ++i) {
      const uint64_t n = marks[i].doublings;
      const unsigned nine = window.read32(n / 8) >> (23 - n % 8) & 511;
      points.push_back({n - marks[i - 1].doublings, (nine - marks[i].low) & 511, marks[i].state});
    }
  }
  return payload;
}

int64_t PayloadDecoder::field(int bits) {
  if (bits < 0 || bits > 31) throw Failure(Status::kBadParameter);
  if (bits == 0) return 0;
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
  coding.normalise();
  if (coding.unary_length < 1) throw Failure(Status::kBadParameter);
  opened.contexts = fresh_contexts(coding.unary_length);
  std::vector<Context>& contexts = opened.contexts;
  const ContextLayout layout(coding.unary_length);
  DecodedPart& part = opened.part;
  std::vector<uint8_t>& skipped = opened.skipped;
  if (coding.has_tool_flags()) {
    if (coding.has_parent) part.history_used = coder_.bypass(1) != 0;
    part.rows_skipped = coder_.bypass(1) != 0;
    if (part.rows_skipped) {
      // Grown as the flags arrive: the row count is only the word of a header.
      for (int64_t y = 0; y < coding.geometry.rows; ++y) {
        skipped.push_back(coder_.bin(contexts[static_cast<size_t>(layout.row_skip)]));
      }
    }
  }
  if (!part.history_used) coding.history = nullptr;

  Context& selection = contexts[static_cast<size_t>(layout.selection)];
  for_each_listed_context(coding, part.history_used, [&](int index, bool signalled) {
    unsigned set = 0;
    if (signalled && coder_.bin(selection)) set = 1 + coder_.bypass(3);
    // The 32nd prefix context of the first edition is never used, so no encoder selects a set for it.
    if (set != 0 && index == layout.prefix + 31) throw Failure(Status::kReservedFlag);
    contexts[static_cast<size_t>(index)].reset(set);
  });
  return opened;
}

void PayloadDecoder::weights(int32_t* levels, OpenTensor& opened) {
  const TensorCoding& coding = opened.coding;
  const bool history_in_use = opened.part.history_used;
  const std::vector<uint8_t>& skipped = opened.skipped;
  std::vector<Context>& contexts = opened.contexts;
  DecodedPart& part = opened.part;
  const ContextLayout layout(coding.unary_length);
  const Bounds bounds = coding.bounds();
  const int32_t* base = coding.temporal() ? coding.base : nullptr;
  const uint8_t* history = history_in_use ? coding.history : nullptr;
  const bool plain = fast_ && coding.is_plain(history_in_use);
  DecodingSource source{coder_, contexts.data()};
  Neighbourhood n;
  uint64_t row_start = 0;
  if (coding.restarts_range()) {
    coder_.restart_range();
    row_start = coder_.doublings();
  }
  for_each_segment(coding.geometry, [&](const Segment& s) {
    if (!skipped.empty() && skipped[static_cast<size_t>(s.row)]) {
      std::fill(levels + s.begin, levels + s.end, 0);
      if (coding.dependent) n.state = after_zeros(n.state, static_cast<uint64_t>(coding.geometry.columns));
    } else if (plain) {
      decode_plain(coder_, contexts.data(), layout, coding.dependent, levels + s.begin, s.end - s.begin, n);
    } else {
      for (int64_t p = s.begin; p < s.end; ++p) {
        if (base != nullptr) n.base = base[p];
        if (history != nullptr) n.history = history[p] != 0;
        const int32_t value = debinarise<true, true>(source, layout, n, bounds);
        n.previous = value;
        if (coding.dependent) {
          const int64_t level = level_from_coded(value, n.state);
          if (level != static_cast<int32_t>(level)) throw Failure(Status::kValueOutOfRange);
          levels[p] = static_cast<int32_t>(level);
          n.state = kNextState[n.state][value & 1];
        } else {
          levels[p] = value;
        }
      }
    }
    if (s.closes_block_row) {
      restart_all(contexts);
      n = Neighbourhood{0, 0, false, n.state};
      coder_.restart_range();
      const uint64_t now = coder_.doublings();
      part.entry_points.push_back({now - row_start, coder_.window(), n.state});
      row_start = now;
    }
  });
}

}  // namespace netpress
