// Quantisation with error feedback, and the rates that it and others freeze.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>

#include <optional>

#include "base/failure.h"
#include "bindings/arrays.h"
#include "quantize/feedback.h"
#include "search/carried_search.h"
#include "search/frozen_rates.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace netpress::bindings {

namespace {

FrozenRates rates_of(Input<int32_t> levels, bool dependent, int unary_length, double lambda) {
  expect_aligned(levels);
  if (unary_length < 1 || unary_length > 256) throw Failure(Status::kBadParameter);
  nb::gil_scoped_release unlocked;
  const ContextLayout layout(unary_length);
  return freeze(count_bins(levels.data(), static_cast<int64_t>(levels.size()), layout, dependent), layout, lambda);
}

// A table of rates in its own memory, kept alive by the object that has it.
template <typename... Sizes>
auto table(nb::handle self, const float* rates, Sizes... sizes) {
  return nb::ndarray<nb::numpy, const float, nb::ndim<sizeof...(Sizes)>>(rates, {static_cast<size_t>(sizes)...}, self);
}

int run_feedback(Input<float> weights, Output<int32_t> levels, int64_t rows, int64_t columns, Input<float> influence,
                 Input<float> importance, Input<float> row_importance, int64_t groups, int64_t block, float step,
                 bool dependent, const FrozenRates* rates, std::optional<Input<float>> targets, int start_state,
                 int end_state, bool scalar, std::optional<Input<float>> row_influence, int64_t row_block,
                 std::optional<Input<float>> mean, std::optional<Input<float>> carry) {
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
  if (mean || carry) {
    if (!mean || !carry || targets || row_influence || (dependent && block > kCarriedBlock)) {
      throw Failure(Status::kBadParameter);
    }
    expect(*mean, groups * columns, "means have another size");
    expect(*carry, groups * columns, "carries have another size");
    form.mean = mean->data();
    form.carry = carry->data();
  }
  FeedbackSettings settings;
  settings.rates = rates;
  settings.reciprocal = static_cast<float>(1.0 / static_cast<double>(step));
  settings.dependent = dependent;
  settings.start_state = start_state;
  settings.end_state = end_state;
  settings.scalar = scalar;
  nb::gil_scoped_release unlocked;
  return quantize_feedback(weights.data(), levels.data(), form, settings);
}

}  // namespace

void bind_feedback(nb::module_& m) {
  nb::class_<FrozenRates>(m, "FrozenRates", nb::is_final(), "What integers cost, by the statistics of levels; immutable.")
      .def_static("of_levels", &rates_of, "levels"_a, nb::kw_only(), "dependent"_a, "unary_length"_a = 11,
                  "lambda_"_a = 1.0, "The rates that levels in scan order give, in bits times lambda.")
      .def_prop_ro(
          "zero", [](nb::handle self) { return table(self, nb::cast<const FrozenRates&>(self).zero[0], 3, 8); },
          "Of a zero, by class of the neighbour (zero, negative, positive) and state.")
      .def_prop_ro(
          "nonzero",
          [](nb::handle self) { return table(self, nb::cast<const FrozenRates&>(self).nonzero[0][0], 2, 3, 8); },
          "Of significance and sign, by sign (negative last), class of the neighbour and state.")
      .def_prop_ro(
          "magnitude",
          [](nb::handle self) {
            return table(self, nb::cast<const FrozenRates&>(self).magnitude[0], 2, FrozenRates::kMagnitudes);
          },
          "Of a magnitude, by sign and magnitude; larger ones cost as much as the last.");
  m.def("quantize_feedback", &run_feedback, "weights"_a, "levels"_a, "rows"_a, "columns"_a, nb::kw_only(),
        "influence"_a, "importance"_a, "row_importance"_a, "groups"_a, "block"_a, "step"_a, "dependent"_a,
        "rates"_a.none() = nb::none(), "targets"_a = nb::none(), "start_state"_a = 0, "end_state"_a = -1,
        "scalar"_a = false, "row_influence"_a = nb::none(), "row_block"_a = 0, "mean"_a = nb::none(),
        "carry"_a = nb::none(),
        "Quantisation with error feedback; fills `levels`, returns the state of the trellis after the last one.");
}

}  // namespace netpress::bindings
