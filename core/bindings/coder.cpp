// The level coder: how a tensor is coded, encoder, decoder, batches of payloads.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <tuple>

#include "base/failure.h"
#include "bindings/arrays.h"
#include "coder/batch_decoder.h"
#include "coder/level_decoder.h"
#include "coder/level_encoder.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace netpress::bindings {

namespace {

// A TensorCoding with the arrays that it points into.
struct BoundCoding {
  TensorCoding value;
  std::optional<Input<uint8_t>> history;
  std::optional<Input<int32_t>> base;

  BoundCoding for_tensor(int64_t rows, int64_t columns, std::optional<Input<uint8_t>> given_history,
                         std::optional<Input<int32_t>> given_base, int64_t codebook_size,
                         int64_t codebook_zero_offset) const {
    BoundCoding coding{value, std::move(given_history), std::move(given_base)};
    TensorCoding& c = coding.value;
    c.geometry = geometry_of(rows, columns, value.geometry.scan_order);
    c.history = nullptr;
    c.base = nullptr;
    if (coding.history) {
      expect(*coding.history, rows * columns, "the history map does not have the tensor's size");
      c.history = coding.history->data();
    }
    if (coding.base) {
      expect(*coding.base, rows * columns, "the base tensor does not have the tensor's size");
      c.base = coding.base->data();
    }
    c.codebook_size = codebook_size;
    c.codebook_zero_offset = codebook_zero_offset;
    return coding;
  }
};

BoundCoding make_coding(int64_t rows, int64_t columns, int scan_order, bool second_edition, bool first_edition_1_0,
                        bool dependent, int unary_length, bool has_parent, bool skip_rows, bool use_history,
                        std::optional<Input<uint8_t>> history, std::optional<Input<int32_t>> base,
                        int64_t codebook_size, int64_t codebook_zero_offset) {
  BoundCoding settings;
  TensorCoding& c = settings.value;
  c.geometry.scan_order = scan_order;
  c.second_edition = second_edition;
  c.first_edition_1_0 = first_edition_1_0;
  c.dependent = dependent;
  c.unary_length = unary_length;
  c.has_parent = has_parent;
  c.skip_rows = skip_rows;
  c.use_history = use_history;
  return settings.for_tensor(rows, columns, std::move(history), std::move(base), codebook_size, codebook_zero_offset);
}

template <typename Levels>
void expect_levels(const Levels& levels, const BoundCoding& coding) {
  expect(levels, coding.value.geometry.size(), "levels do not have the tensor's size");
}

using Points = std::vector<std::tuple<uint64_t, unsigned, unsigned>>;

Points points_of(const std::vector<EntryPoint>& points) {
  Points result;
  result.reserve(points.size());
  for (const EntryPoint& p : points) result.emplace_back(p.distance, p.value, p.state);
  return result;
}

void encode_tensor(PayloadEncoder& encoder, Input<int32_t> levels, const BoundCoding& coding, Search search) {
  expect_levels(levels, coding);
  nb::gil_scoped_release unlocked;
  encoder.tensor(levels.data(), coding.value, search);
}

std::tuple<nb::bytes, std::vector<Points>> finish(PayloadEncoder& encoder) {
  const std::vector<uint8_t> payload = encoder.finish();
  std::vector<Points> points;
  for (const auto& list : encoder.entry_points()) points.push_back(points_of(list));
  return {nb::bytes(payload.data(), payload.size()), points};
}

// Holds the payload alive while it is decoded; failures become exceptions.
class BoundDecoder {
 public:
  explicit BoundDecoder(Input<uint8_t> data) : data_(std::move(data)), decoder_(data_.data(), data_.size()) {
    require(decoder_.status());
  }

  int64_t field(int bits) {
    const int64_t value = decoder_.field(bits);
    require(decoder_.status());
    return value;
  }

  std::tuple<bool, bool, Points> tensor(Output<int32_t> levels, const BoundCoding& coding) {
    expect_levels(levels, coding);
    DecodedPart part;
    {
      nb::gil_scoped_release unlocked;
      part = decoder_.tensor(levels.data(), coding.value);
    }
    require(decoder_.status());
    return {part.history_used, part.rows_skipped, points_of(part.entry_points)};
  }

  void finish() {
    decoder_.finish();
    require(decoder_.status());
  }

 private:
  Input<uint8_t> data_;
  PayloadDecoder decoder_;
};

// Holds payloads, levels and codings alive while they are decoded.
class BoundBatch {
 public:
  void begin(Input<uint8_t> data) {
    unit_ = &batch_.add();
    unit_->data = data.data();
    unit_->size = data.size();
    payloads_.push_back(std::move(data));
  }

  void add(Output<int32_t> levels, const BoundCoding& coding, int field_bits, bool dequantizes, int64_t base_qp,
           int qp_density) {
    if (unit_ == nullptr) throw nb::value_error("a tensor without a payload");
    if (qp_density < 0 || qp_density > 7) throw nb::value_error("impossible qp density");
    expect_levels(levels, coding);
    BatchPart part;
    part.coding = coding.value;
    part.levels = levels.data();
    part.field_bits = field_bits;
    part.dequantizes = dequantizes;
    part.base_qp = base_qp;
    part.qp_density = qp_density;
    unit_->parts.push_back(std::move(part));
    levels_.push_back(std::move(levels));
    if (coding.history || coding.base) codings_.push_back(coding);
  }

  void run() { batch_.run(); }

  nb::list results() const {
    nb::list results;
    for (const BatchUnit& unit : batch_.units()) {
      if (unit.status != Status::kOk) {
        results.append(nb::make_tuple(message_of(unit.status), unit.status));
        continue;
      }
      nb::list parts;
      for (const BatchPart& part : unit.parts) {
        const DecodedPart& decoded = part.decoded;
        parts.append(nb::make_tuple(part.field, decoded.history_used, decoded.rows_skipped,
                                    points_of(decoded.entry_points)));
      }
      results.append(std::move(parts));
    }
    return results;
  }

 private:
  BatchDecoder batch_;
  BatchUnit* unit_ = nullptr;
  std::vector<Input<uint8_t>> payloads_;
  std::vector<BoundCoding> codings_;
  std::vector<Output<int32_t>> levels_;
};

}  // namespace

void bind_coder(nb::module_& m) {
  nb::enum_<Search>(m, "Search", "How an encoder chooses the parameter sets of the contexts.")
      .value("OFF", Search::kOff, "Set 0 for all.")
      .value("REFERENCE", Search::kReference, "As NNCodec does.")
      .value("BEST", Search::kBest, "By the bins that are coded and the price of signalling.");

  nb::class_<BoundCoding>(m, "TensorCoding", nb::is_final(), "How the integers of a tensor are coded; immutable.")
      .def("__init__",
           [](BoundCoding* self, int64_t rows, int64_t columns, int scan_order, bool second_edition,
              bool first_edition_1_0, bool dependent, int unary_length, bool has_parent, bool skip_rows,
              bool use_history, std::optional<Input<uint8_t>> history, std::optional<Input<int32_t>> base,
              int64_t codebook_size, int64_t codebook_zero_offset) {
             new (self) BoundCoding(make_coding(rows, columns, scan_order, second_edition, first_edition_1_0, dependent,
                                                unary_length, has_parent, skip_rows, use_history, std::move(history),
                                                std::move(base), codebook_size, codebook_zero_offset));
           },
           "rows"_a = 0, "columns"_a = 0, nb::kw_only(), "scan_order"_a = 0, "second_edition"_a = true,
           "first_edition_1_0"_a = false, "dependent"_a = false, "unary_length"_a = 11, "has_parent"_a = false,
           "skip_rows"_a = false, "use_history"_a = false, "history"_a = nb::none(), "base"_a = nb::none(),
           "codebook_size"_a = 0, "codebook_zero_offset"_a = 0,
           "`unary_length` is cabac_unary_length_minus1 + 1. `skip_rows` and `use_history` are for the encoder.")
      .def("for_tensor", &BoundCoding::for_tensor, "rows"_a, "columns"_a, "history"_a = nb::none(),
           "base"_a = nb::none(), "codebook_size"_a = 0, "codebook_zero_offset"_a = 0,
           "The same settings for a tensor of this size, with arrays and codebook of its own.")
      .def_prop_ro("rows", [](const BoundCoding& c) { return c.value.geometry.rows; })
      .def_prop_ro("columns", [](const BoundCoding& c) { return c.value.geometry.columns; })
      .def_prop_ro("scan_order", [](const BoundCoding& c) { return c.value.geometry.scan_order; })
      .def_prop_ro("second_edition", [](const BoundCoding& c) { return c.value.second_edition; })
      .def_prop_ro("first_edition_1_0", [](const BoundCoding& c) { return c.value.first_edition_1_0; })
      .def_prop_ro("dependent", [](const BoundCoding& c) { return c.value.dependent; })
      .def_prop_ro("unary_length", [](const BoundCoding& c) { return c.value.unary_length; })
      .def_prop_ro("has_parent", [](const BoundCoding& c) { return c.value.has_parent; })
      .def_prop_ro("skip_rows", [](const BoundCoding& c) { return c.value.skip_rows; })
      .def_prop_ro("use_history", [](const BoundCoding& c) { return c.value.use_history; })
      .def_prop_ro("codebook_size", [](const BoundCoding& c) { return c.value.codebook_size; })
      .def_prop_ro("codebook_zero_offset", [](const BoundCoding& c) { return c.value.codebook_zero_offset; });

  nb::class_<PayloadEncoder>(m, "PayloadEncoder", "Codes tensors of integers into one arithmetic codeword.")
      .def(nb::init<>())
      .def("field", &PayloadEncoder::field, "value"_a, "bits"_a, "Codes a signed field of `bits` bypass bins.")
      .def("tensor", &encode_tensor, "levels"_a, "coding"_a, "search"_a = Search::kBest, "Codes a tensor.")
      .def("finish", &finish,
           "Closes the codeword: (payload, entry points (distance in bits, value, state) per tensor).");

  nb::class_<BoundDecoder>(m, "PayloadDecoder", "Decodes tensors of integers from one arithmetic codeword.")
      .def(nb::init<Input<uint8_t>>(), "data"_a)
      .def("field", &BoundDecoder::field, "bits"_a, "Decodes a signed field of `bits` bypass bins.")
      .def("tensor", &BoundDecoder::tensor, "levels"_a, "coding"_a,
           "Fills `levels`; returns (history used, rows skipped, entry points as observed).")
      .def("finish", &BoundDecoder::finish, "Checks that the codeword ends where the payload does.");

  nb::class_<BoundBatch>(m, "BatchDecoder", "Decodes payloads that do not depend on each other, several at a time.")
      .def(nb::init<>())
      .def("begin", &BoundBatch::begin, "data"_a, "Begins a payload; add() says what is in it.")
      .def("add", &BoundBatch::add, "levels"_a, "coding"_a, "field_bits"_a, "dequantizes"_a, "base_qp"_a,
           "qp_density"_a,
           "Adds a tensor, with a field before it unless `field_bits` is 0. With `dequantizes` its levels become "
           "float32 in their place, with the step of field + base_qp.")
      .def("run", &BoundBatch::run, nb::call_guard<nb::gil_scoped_release>(),
           "Decodes until nothing is left to begin with; to be called once by each thread that takes part.")
      .def("results", &BoundBatch::results,
           nb::sig("def results(self) -> list[tuple[str, Status] | "
                   "list[tuple[int, bool, bool, list[tuple[int, int, int]]]]]"),
           "For each payload a list of (field, history used, rows skipped, entry points) for each tensor, or message "
           "and status of its failure.");
}

}  // namespace netpress::bindings
