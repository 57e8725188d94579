// Python module netpress._core: arrays in, arrays or bytes out, interpreter lock released while working.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <optional>
#include <tuple>

#include "coder/batch_decoder.h"
#include "search/codebook_search.h"
#include "search/frozen_rates.h"
#include "base/failure.h"
#include "coder/level_decoder.h"
#include "coder/level_encoder.h"
#include "quantize/dequantize.h"
#include "quantize/quantizers.h"
#include "quantize/feedback.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace netpress;

namespace {

template <typename T>
using Input = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename T>
using Output = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// An array of the size that is needed, at an address that its type allows.
template <typename Array>
void expect(const Array& array, int64_t size, const char* what) {
  if (static_cast<int64_t>(array.size()) != size) throw nb::value_error(what);
  if (reinterpret_cast<uintptr_t>(array.data()) % sizeof(*array.data()) != 0) {
    throw nb::value_error("an array is not aligned");
  }
}

Geometry geometry_of(int64_t rows, int64_t columns, int scan_order) {
  if (rows < 0 || columns < 0 || (columns > 0 && rows > (int64_t{1} << 62) / columns)) {
    throw nb::value_error("impossible tensor dimensions");
  }
  Geometry g;
  g.rows = rows;
  g.columns = columns;
  g.scan_order = scan_order;
  return g;
}

TensorCoding coding_of(int64_t rows, int64_t columns, int scan_order, bool second_edition, bool first_edition_1_0,
                       bool dependent, int unary_length, bool has_parent, const std::optional<Input<uint8_t>>& history,
                       const std::optional<Input<int32_t>>& base, int64_t codebook_size, int64_t codebook_zero_offset) {
  TensorCoding c;
  c.geometry = geometry_of(rows, columns, scan_order);
  c.second_edition = second_edition;
  c.first_edition_1_0 = first_edition_1_0;
  c.dependent = dependent;
  c.unary_length = unary_length;
  c.has_parent = has_parent;
  if (history) {
    expect(*history, rows * columns, "the history map does not have the tensor's size");
    c.history = history->data();
  }
  if (base) {
    expect(*base, rows * columns, "the base tensor does not have the tensor's size");
    c.base = base->data();
  }
  c.codebook_size = codebook_size;
  c.codebook_zero_offset = codebook_zero_offset;
  return c;
}

using Points = std::vector<std::tuple<uint64_t, unsigned, unsigned>>;

Points points_of(const std::vector<EntryPoint>& points) {
  Points result;
  result.reserve(points.size());
  for (const EntryPoint& p : points) result.emplace_back(p.distance, p.value, p.state);
  return result;
}

// Holds the payload alive while it is decoded.
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

  DecodedPart tensor(int32_t* levels, const TensorCoding& coding) {
    nb::gil_scoped_release unlocked;
    DecodedPart part = decoder_.tensor(levels, coding);
    require(decoder_.status());
    return part;
  }

  void finish() {
    decoder_.finish();
    require(decoder_.status());
  }

 private:
  Input<uint8_t> data_;
  PayloadDecoder decoder_;
};

// Holds payloads and levels alive while they are decoded.
class BoundBatch {
 public:
  void begin(Input<uint8_t> data) {
    unit_ = &batch_.add();
    unit_->data = data.data();
    unit_->size = data.size();
    bytes_.push_back(std::move(data));
  }

  void add(Output<int32_t> levels, int64_t rows, int64_t columns, int field_bits, int scan_order, bool second_edition,
           bool dependent, int unary_length, bool has_parent, std::optional<Input<uint8_t>> history,
           std::optional<Input<int32_t>> base, int64_t codebook_size, int64_t codebook_zero_offset, bool dequantizes,
           int64_t base_qp, int qp_density) {
    if (unit_ == nullptr) throw nb::value_error("a tensor without a payload");
    if (qp_density < 0 || qp_density > 7) throw nb::value_error("impossible qp density");
    BatchPart part;
    part.coding = coding_of(rows, columns, scan_order, second_edition, false, dependent, unary_length, has_parent,
                            history, base, codebook_size, codebook_zero_offset);
    expect(levels, rows * columns, "levels do not have the tensor's size");
    part.levels = levels.data();
    part.field_bits = field_bits;
    part.dequantizes = dequantizes;
    part.base_qp = base_qp;
    part.qp_density = qp_density;
    unit_->parts.push_back(std::move(part));
    levels_.push_back(std::move(levels));
    if (history) bytes_.push_back(std::move(*history));
    if (base) bases_.push_back(std::move(*base));
  }

  void run() { batch_.run(); }

  // For each unit its tensors, or the message of its failure.
  nb::list results() const {
    nb::list results;
    for (const BatchUnit& unit : batch_.units()) {
      if (unit.status != Status::kOk) {
        results.append(nb::str(message_of(unit.status)));
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
  std::vector<Input<uint8_t>> bytes_;  // payloads and histories
  std::vector<Input<int32_t>> bases_;
  std::vector<Output<int32_t>> levels_;
};

template <typename Quantize>
int64_t run_quantizer(Quantize quantize, Input<float> weights, Output<int32_t> levels, int64_t rows, int64_t columns,
                      int scan_order, int64_t qp, int qp_density, float lambda_scale, int rate_unary_length) {
  QuantizerSettings s;
  s.geometry = geometry_of(rows, columns, scan_order);
  if (!s.geometry.matrix_like()) s.geometry.scan_order = 0;
  expect(weights, rows * columns, "weights do not have the tensor's size");
  expect(levels, rows * columns, "levels do not have the tensor's size");
  s.qp_density = qp_density;
  s.lambda_scale = lambda_scale;
  s.unary_length = rate_unary_length + 1;
  if (scan_order < 0 || scan_order > 4 || qp_density < 0 || qp_density > 7 || rate_unary_length < 0 ||
      rate_unary_length > 255) {
    throw Failure(Status::kBadParameter);
  }
  nb::gil_scoped_release unlocked;
  return quantize(weights.data(), levels.data(), s, qp);
}

static_assert(sizeof(FrozenRates) % sizeof(float) == 0, "rates travel as an array of floats");
constexpr int64_t kRateCount = sizeof(FrozenRates) / sizeof(float);

void fill_rates(Input<int32_t> levels, Output<float> rates, bool dependent, int unary_length, double lambda) {
  const auto count = static_cast<int64_t>(levels.size());
  expect(levels, count, "");
  expect(rates, kRateCount, "rates have another size");
  if (unary_length < 1 || unary_length > 256) throw Failure(Status::kBadParameter);
  nb::gil_scoped_release unlocked;
  const ContextLayout layout(unary_length);
  const FrozenRates frozen = freeze(count_bins(levels.data(), count, layout, dependent), layout, lambda);
  std::memcpy(rates.data(), &frozen, sizeof(frozen));
}

int run_feedback(Input<float> weights, Output<int32_t> levels, int64_t rows, int64_t columns, Input<float> influence,
                 Input<float> importance, Input<float> row_importance, int64_t groups, int64_t block, float step,
                 bool dependent, std::optional<Input<float>> rates, std::optional<Input<float>> targets,
                 int start_state, int end_state, bool plain, std::optional<Input<float>> row_influence,
                 int64_t row_block) {
  FeedbackForm form;
  (void)geometry_of(rows, columns, 0);
  expect(weights, rows * columns, "weights do not have the tensor's size");
  expect(levels, rows * columns, "levels do not have the tensor's size");
  if (groups < 1 || rows % groups != 0 || block < 1 || !(step > 0) || start_state < 0 || start_state > 7 ||
      end_state < -1 || end_state > 7) {
    throw Failure(Status::kBadParameter);
  }
  (void)geometry_of(groups * columns, block, 0);
  expect(influence, groups * columns * block, "influences have another size");
  expect(importance, groups * columns, "importances have another size");
  expect(row_importance, rows, "row importances have another size");
  form.rows = rows;
  form.columns = columns;
  form.groups = groups;
  form.block = block;
  form.influence = influence.data();
  form.importance = importance.data();
  form.row_importance = row_importance.data();
  if (targets) {
    expect(*targets, rows * columns, "targets do not have the tensor's size");
    form.targets = targets->data();
  }
  if (row_influence) {
    if (row_block < 1 || groups != 1) throw Failure(Status::kBadParameter);
    (void)geometry_of(rows, row_block, 0);
    expect(*row_influence, rows * row_block, "influences of rows have another size");
    form.row_influence = row_influence->data();
    form.row_block = row_block;
  }
  FeedbackSettings settings;
  FrozenRates frozen;
  if (rates) {
    expect(*rates, kRateCount, "rates have another size");
    std::memcpy(&frozen, rates->data(), sizeof(frozen));
    settings.rates = &frozen;
  }
  settings.reciprocal = static_cast<float>(1.0 / static_cast<double>(step));
  settings.dependent = dependent;
  settings.start_state = start_state;
  settings.end_state = end_state;
  settings.scalar = plain;
  nb::gil_scoped_release unlocked;
  return quantize_feedback(weights.data(), levels.data(), form, settings);
}

}  // namespace

NB_MODULE(_core, m) {
  m.doc() = "Entropy coder and quantisers of netpress. Private: use the netpress package.";
  nb::exception<Failure>(m, "Failure", PyExc_ValueError);

  nb::class_<PayloadEncoder>(m, "PayloadEncoder", "Codes tensors of integers into one arithmetic codeword.")
      .def(nb::init<>())
      .def("field", &PayloadEncoder::field, "value"_a, "bits"_a, "Codes a signed field of `bits` bypass bins.")
      .def(
          "tensor",
          [](PayloadEncoder& self, Input<int32_t> levels, int64_t rows, int64_t columns, int scan_order,
             bool second_edition, bool first_edition_1_0, bool dependent, int unary_length, bool has_parent,
             bool skip_rows, bool use_history, std::optional<Input<uint8_t>> history,
             std::optional<Input<int32_t>> base, int64_t codebook_size, int64_t codebook_zero_offset, int search) {
            TensorCoding c = coding_of(rows, columns, scan_order, second_edition, first_edition_1_0, dependent,
                                       unary_length, has_parent, history, base, codebook_size, codebook_zero_offset);
            expect(levels, rows * columns, "levels do not have the tensor's size");
            if (search < 0 || search > 2) throw Failure(Status::kBadParameter);
            c.skip_rows = skip_rows;
            c.use_history = use_history;
            nb::gil_scoped_release unlocked;
            self.tensor(levels.data(), c, static_cast<Search>(search));
          },
          "levels"_a, "rows"_a, "columns"_a, nb::kw_only(), "scan_order"_a = 0, "second_edition"_a = true,
          "first_edition_1_0"_a = false, "dependent"_a = false, "unary_length"_a = 11, "has_parent"_a = false,
          "skip_rows"_a = false, "use_history"_a = false, "history"_a = nb::none(), "base"_a = nb::none(),
          "codebook_size"_a = 0, "codebook_zero_offset"_a = 0, "search"_a = 2,
          "Codes a tensor; `search`: 0 no parameter sets, 1 NNCodec's choice, 2 the best.")
      .def(
          "finish",
          [](PayloadEncoder& self) {
            const std::vector<uint8_t> payload = self.finish();
            std::vector<Points> points;
            for (const auto& list : self.entry_points()) points.push_back(points_of(list));
            return std::make_tuple(nb::bytes(payload.data(), payload.size()), points);
          },
          "Closes the codeword: (payload, entry points (distance in bits, value, state) per tensor).");

  nb::class_<BoundDecoder>(m, "PayloadDecoder", "Decodes tensors of integers from one arithmetic codeword.")
      .def(nb::init<Input<uint8_t>>(), "data"_a)
      .def("field", &BoundDecoder::field, "bits"_a)
      .def(
          "tensor",
          [](BoundDecoder& self, Output<int32_t> levels, int64_t rows, int64_t columns, int scan_order,
             bool second_edition, bool first_edition_1_0, bool dependent, int unary_length, bool has_parent,
             std::optional<Input<uint8_t>> history, std::optional<Input<int32_t>> base, int64_t codebook_size,
             int64_t codebook_zero_offset) {
            const TensorCoding c = coding_of(rows, columns, scan_order, second_edition, first_edition_1_0, dependent,
                                             unary_length, has_parent, history, base, codebook_size,
                                             codebook_zero_offset);
            expect(levels, rows * columns, "levels do not have the tensor's size");
            const DecodedPart part = self.tensor(levels.data(), c);
            return std::make_tuple(part.history_used, part.rows_skipped, points_of(part.entry_points));
          },
          "levels"_a, "rows"_a, "columns"_a, nb::kw_only(), "scan_order"_a = 0, "second_edition"_a = true,
          "first_edition_1_0"_a = false, "dependent"_a = false, "unary_length"_a = 11, "has_parent"_a = false,
          "history"_a = nb::none(), "base"_a = nb::none(), "codebook_size"_a = 0, "codebook_zero_offset"_a = 0,
          "Fills `levels`; returns (history used, rows skipped, entry points as observed).")
      .def("finish", &BoundDecoder::finish);

  nb::class_<BoundBatch>(m, "BatchDecoder", "Decodes payloads that do not depend on each other, several at a time.")
      .def(nb::init<>())
      .def("begin", &BoundBatch::begin, "data"_a, "Begins a payload; add() says what is in it.")
      .def("add", &BoundBatch::add, "levels"_a, "rows"_a, "columns"_a, "field_bits"_a, "scan_order"_a,
           "second_edition"_a, "dependent"_a, "unary_length"_a, "has_parent"_a, "history"_a.none(), "base"_a.none(),
           "codebook_size"_a, "codebook_zero_offset"_a, "dequantizes"_a, "base_qp"_a, "qp_density"_a,
           "Adds a tensor, with a field before it unless `field_bits` is 0. With `dequantizes` its levels become "
           "float32 in their place, with the step of field + base_qp.")
      .def("run", &BoundBatch::run, nb::call_guard<nb::gil_scoped_release>(),
           "Decodes until nothing is left to begin with; to be called once by each thread that takes part.")
      .def("results", &BoundBatch::results,
           "For each payload a list of (field, history used, rows skipped, entry points) for each tensor, or the "
           "message of its failure.");

  const auto quantizer = [&m](const char* name, auto function, const char* doc) {
    m.def(
        name,
        [function](Input<float> weights, Output<int32_t> levels, int64_t rows, int64_t columns, int64_t qp,
                   int scan_order, int qp_density, float lambda_scale, int rate_unary_length) {
          return run_quantizer(function, std::move(weights), std::move(levels), rows, columns, scan_order, qp,
                               qp_density, lambda_scale, rate_unary_length);
        },
        "weights"_a, "levels"_a, "rows"_a, "columns"_a, "qp"_a, nb::kw_only(), "scan_order"_a = 0, "qp_density"_a = 2,
        "lambda_scale"_a = 0.0f, "rate_unary_length"_a = 10, doc);
  };
  quantizer("quantize_uniform", &quantize_uniform, "Independent quantisation; fills `levels`, returns the qp used.");
  quantizer("quantize_trellis", &quantize_trellis, "Dependent quantisation; fills `levels`, returns the qp used.");

  m.def(
      "quantize_rd",
      [](Input<float> weights, Output<int32_t> levels, int64_t rows, int64_t columns, int64_t qp, int scan_order,
         int qp_density, float lambda_scale, int unary_length, int passes) {
        if (unary_length < 1 || unary_length > 256 || passes < 1) throw Failure(Status::kBadParameter);
        const auto quantize = [&](const float* w, int32_t* l, const QuantizerSettings& s, int64_t q) {
          return quantize_rd(w, l, s, q, passes);
        };
        return run_quantizer(quantize, std::move(weights), std::move(levels), rows, columns, scan_order, qp, qp_density,
                             lambda_scale, unary_length - 1);
      },
      "weights"_a, "levels"_a, "rows"_a, "columns"_a, "qp"_a, nb::kw_only(), "scan_order"_a = 0, "qp_density"_a = 2,
      "lambda_scale"_a = 1.0f, "unary_length"_a = 11, "passes"_a = 1,
      "Dependent quantisation with the rate of the bins that will be coded; fills `levels`, returns the qp used.");
  m.attr("RATE_COUNT") = kRateCount;
  m.def("fill_rates", &fill_rates, "levels"_a, "rates"_a, nb::kw_only(), "dependent"_a, "unary_length"_a = 11,
        "lambda_"_a = 1.0, "Fills the table of rates that the statistics of `levels` give, in bits times lambda.");
  m.def("quantize_feedback", &run_feedback, "weights"_a, "levels"_a, "rows"_a, "columns"_a, nb::kw_only(),
        "influence"_a, "importance"_a, "row_importance"_a, "groups"_a, "block"_a, "step"_a, "dependent"_a,
        "rates"_a = nb::none(), "targets"_a = nb::none(), "start_state"_a = 0, "end_state"_a = -1, "plain"_a = false,
        "row_influence"_a = nb::none(), "row_block"_a = 0,
        "Quantisation with error feedback; fills `levels`, returns the state of the trellis behind the last one.");
  m.def(
      "dequantize_uniform",
      [](Input<int32_t> levels, Output<float> values, float step) {
        const auto count = static_cast<int64_t>(levels.size());
        expect(levels, count, "");
        expect(values, count, "values do not have the size of the levels");
        nb::gil_scoped_release unlocked;
        dequantize_uniform(levels.data(), values.data(), static_cast<int64_t>(levels.size()), step);
      },
      "levels"_a, "values"_a, "step"_a, "values = f32(level) * f32(step); may share the memory of `levels`.");
  m.def(
      "dequantize_codebook",
      [](Input<int32_t> indexes, Output<float> values, Input<int32_t> codebook, int64_t zero_offset, double step) {
        const auto count = static_cast<int64_t>(indexes.size());
        expect(indexes, count, "");
        expect(values, count, "values do not have the size of the indexes");
        expect(codebook, static_cast<int64_t>(codebook.size()), "");
        nb::gil_scoped_release unlocked;
        require(dequantize_codebook(indexes.data(), values.data(), static_cast<int64_t>(indexes.size()),
                                    codebook.data(), static_cast<int64_t>(codebook.size()), zero_offset, step));
      },
      "indexes"_a, "values"_a, "codebook"_a, "zero_offset"_a, "step"_a,
      "values = f32(codebook[index + zero_offset] * step); may share the memory of `indexes`.");
  m.def(
      "codebook_zero_offset",
      [](Input<int32_t> indexes, int64_t rows, int64_t columns, int64_t codebook_size, int unary_length,
         bool first_edition_1_0) {
        expect(indexes, rows * columns, "indexes do not have the tensor's size");
        if (codebook_size < 1) throw Failure(Status::kBadParameter);
        const Geometry g = geometry_of(rows, columns, 0);
        nb::gil_scoped_release unlocked;
        return codebook_zero_offset(indexes.data(), g, codebook_size, first_edition_1_0 ? unary_length : unary_length + 1,
                                    first_edition_1_0);
      },
      "indexes"_a, "rows"_a, "columns"_a, "codebook_size"_a, "unary_length"_a, "first_edition_1_0"_a = false,
      "Zero offset with the shortest profile-0 payload of index - offset; the smallest of equals.");
}
