// Quantisers without knowledge of a layer's inputs, dequantisation, and the search that belongs to codebooks.
#include <nanobind/nanobind.h>

#include "base/failure.h"
#include "bindings/arrays.h"
#include "quantize/dequantize.h"
#include "quantize/quantizers.h"
#include "search/codebook_search.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace netpress::bindings {

namespace {

template <typename Quantize>
int64_t run_quantizer(Quantize quantize, const Input<float>& weights, const Output<int32_t>& levels, int64_t rows,
                      int64_t columns, int64_t qp, int scan_order, int qp_density, float lambda_scale,
                      int unary_length) {
  QuantizerSettings s;
  s.geometry = geometry_of(rows, columns, scan_order);
  if (!s.geometry.matrix_like()) s.geometry.scan_order = 0;
  expect(weights, rows * columns, "weights do not have the tensor's size");
  expect(levels, rows * columns, "levels do not have the tensor's size");
  s.qp_density = qp_density;
  s.lambda_scale = lambda_scale;
  s.unary_length = unary_length;
  if (scan_order < 0 || scan_order > 4 || qp_density < 0 || qp_density > 7 || unary_length < 1 || unary_length > 256) {
    throw Failure(Status::kBadParameter);
  }
  nb::gil_scoped_release unlocked;
  return quantize(weights.data(), levels.data(), s, qp);
}

template <typename Quantize>
void bind_quantizer(nb::module_& m, const char* name, Quantize quantize, const char* doc) {
  m.def(
      name,
      [quantize](Input<float> weights, Output<int32_t> levels, int64_t rows, int64_t columns, int64_t qp,
                 int scan_order, int qp_density, float lambda_scale, int unary_length) {
        return run_quantizer(quantize, weights, levels, rows, columns, qp, scan_order, qp_density, lambda_scale,
                             unary_length);
      },
      "weights"_a, "levels"_a, "rows"_a, "columns"_a, "qp"_a, nb::kw_only(), "scan_order"_a = 0, "qp_density"_a = 2,
      "lambda_scale"_a = 0.0f, "unary_length"_a = 11, doc);
}

}  // namespace

void bind_quantizers(nb::module_& m) {
  bind_quantizer(m, "quantize_uniform", &quantize_uniform,
                 "Independent quantisation; fills `levels`, returns the qp used.");
  bind_quantizer(m, "quantize_trellis", &quantize_trellis,
                 "Dependent quantisation; fills `levels`, returns the qp used.");
  m.def(
      "quantize_rd",
      [](Input<float> weights, Output<int32_t> levels, int64_t rows, int64_t columns, int64_t qp, int scan_order,
         int qp_density, float lambda_scale, int unary_length, int passes) {
        if (passes < 1) throw Failure(Status::kBadParameter);
        const auto quantize = [&](const float* w, int32_t* l, const QuantizerSettings& s, int64_t q) {
          return quantize_rd(w, l, s, q, passes);
        };
        return run_quantizer(quantize, weights, levels, rows, columns, qp, scan_order, qp_density, lambda_scale,
                             unary_length);
      },
      "weights"_a, "levels"_a, "rows"_a, "columns"_a, "qp"_a, nb::kw_only(), "scan_order"_a = 0, "qp_density"_a = 2,
      "lambda_scale"_a = 1.0f, "unary_length"_a = 11, "passes"_a = 1,
      "Dependent quantisation with the rate of the bins that will be coded; fills `levels`, returns the qp used.");
  m.def(
      "rate_price",
      [](Input<float> weights, Input<int32_t> levels, float step, double lambda_scale) {
        const auto count = static_cast<int64_t>(weights.size());
        expect(weights, count, "weights are not aligned");
        expect(levels, count, "levels do not have the size of the weights");
        if (!(step > 0)) throw Failure(Status::kBadParameter);
        nb::gil_scoped_release unlocked;
        return rate_price(weights.data(), levels.data(), count, 1.0 / static_cast<double>(step), lambda_scale);
      },
      "weights"_a, "levels"_a, "step"_a, "lambda_scale"_a,
      "Price of a bit in squared steps for a search that follows the one without rate; 0 where rates do not count.");
  m.def(
      "dequantize_uniform",
      [](Input<int32_t> levels, Output<float> values, float step) {
        const auto count = static_cast<int64_t>(levels.size());
        expect_aligned(levels);
        expect(values, count, "values do not have the size of the levels");
        nb::gil_scoped_release unlocked;
        dequantize_uniform(levels.data(), values.data(), count, step);
      },
      "levels"_a, "values"_a, "step"_a, "values = f32(level) * f32(step); may share the memory of `levels`.");
  m.def(
      "dequantize_codebook",
      [](Input<int32_t> indexes, Output<float> values, Input<int32_t> codebook, int64_t zero_offset, double step) {
        const auto count = static_cast<int64_t>(indexes.size());
        expect_aligned(indexes);
        expect(values, count, "values do not have the size of the indexes");
        expect_aligned(codebook);
        nb::gil_scoped_release unlocked;
        require(dequantize_codebook(indexes.data(), values.data(), count, codebook.data(),
                                    static_cast<int64_t>(codebook.size()), zero_offset, step));
      },
      "indexes"_a, "values"_a, "codebook"_a, "zero_offset"_a, "step"_a,
      "values = f32(codebook[index + zero_offset] * step); may share the memory of `indexes`.");
  m.def(
      "codebook_zero_offset",
      [](Input<int32_t> indexes, int64_t rows, int64_t columns, int64_t codebook_size, int unary_length,
         bool first_edition_1_0) {
        const Geometry g = geometry_of(rows, columns, 0);
        expect(indexes, rows * columns, "indexes do not have the tensor's size");
        if (codebook_size < 1 || unary_length < 1) throw Failure(Status::kBadParameter);
        nb::gil_scoped_release unlocked;
        return codebook_zero_offset(indexes.data(), g, codebook_size, unary_length, first_edition_1_0);
      },
      "indexes"_a, "rows"_a, "columns"_a, "codebook_size"_a, "unary_length"_a, "first_edition_1_0"_a = false,
      "Zero offset with the shortest profile-0 payload of index - offset, as NNCodec measures it for a coding with "
      "`unary_length`; the smallest of equals.");
}

}  // namespace netpress::bindings
