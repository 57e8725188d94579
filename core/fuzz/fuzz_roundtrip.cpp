// Integers from the input, coded and decoded: the same integers, the same entry points, whatever the parameter search.
#include <memory>

#include "base/failure.h"
#include "coder/level_decoder.h"
#include "coder/level_encoder.h"
#include "coder/trellis.h"
#include "input.h"

using namespace netpress;
using namespace netpress::fuzz;

namespace {

constexpr int64_t kLargest = 4096;

// A value that the codebook has, or any.
int32_t admitted(int32_t value, const Bounds& bounds) {
  if (value < -bounds.negative) return static_cast<int32_t>(-bounds.negative);
  if (value > bounds.positive) return static_cast<int32_t>(bounds.positive);
  return value;
}

// Coded integers to levels on the path of the machine, walking as the coder does.
void to_levels(std::vector<int32_t>& values, TensorCoding coding) {
  require(coding.normalise());
  const bool skips = coding.skip_rows && coding.has_tool_flags();
  const std::vector<uint8_t> zero = zero_rows(values.data(), coding.geometry);
  unsigned state = 0;
  for_each_segment(coding.geometry, [&](const Segment& s) {
    if (skips && zero[static_cast<size_t>(s.row)]) {
      state = after_zeros(state, static_cast<uint64_t>(coding.geometry.columns));
      return;
    }
    for (int64_t p = s.begin; p < s.end; ++p) {
      int32_t& value = values[static_cast<size_t>(p)];
      // Halved twice where twice the integer would leave 32 bits; never 0, so that zero rows stay what they are.
      while (level_from_coded(value, state) != static_cast<int32_t>(level_from_coded(value, state))) value /= 2;
      const int32_t coded = value;
      value = static_cast<int32_t>(level_from_coded(coded, state));
      expect(coded_from_level(value, state) == coded, "a level does not give its integer back");
      state = kNextState[state][coded & 1];
    }
  });
}

std::vector<int32_t> read_levels(Input& input, const TensorCoding& coding) {
  std::vector<int32_t> values(static_cast<size_t>(coding.geometry.size()));
  const Bounds bounds = coding.bounds();
  for (int32_t& value : values) value = bounds.single ? 0 : admitted(input.front_value(), bounds);
  if (coding.dependent) to_levels(values, coding);
  return values;
}

struct Case {
  Tensor tensor;
  std::vector<int32_t> levels;
  int64_t field = 0;
};

std::vector<uint8_t> encode(PayloadEncoder& encoder, const std::vector<std::unique_ptr<Case>>& cases, Search search) {
  for (const auto& c : cases) {
    if (c->tensor.field_bits != 0) encoder.field(c->field, c->tensor.field_bits);
    encoder.tensor(c->levels.data(), c->tensor.coding, search);
  }
  return encoder.finish();
}

void check(const std::vector<std::unique_ptr<Case>>& cases, Search search) {
  PayloadEncoder encoder;
  const std::vector<uint8_t> payload = encode(encoder, cases, search);
  if (search == Search::kOff) {
    PayloadEncoder general(false);
    expect(payload == encode(general, cases, search), "the two coding loops give different bytes");
    expect(encoder.entry_points() == general.entry_points(), "the two coding loops differ in entry points");
  }
  expect(encoder.entry_points().size() == cases.size(), "one list of entry points per tensor");

  PayloadDecoder decoder(payload.data(), payload.size());
  for (size_t i = 0; i < cases.size(); ++i) {
    const Case& c = *cases[i];
    if (c.tensor.field_bits != 0) expect(decoder.field(c.tensor.field_bits) == c.field, "a field changed");
    std::vector<int32_t> decoded(c.levels.size(), 0x5EA1ED00);
    const DecodedPart part = decoder.tensor(decoded.data(), c.tensor.coding);
    expect(decoded == c.levels, "an integer changed");
    expect(part.entry_points == encoder.entry_points()[i], "an entry point changed");
    TensorCoding coding = c.tensor.coding;
    require(coding.normalise());
    expect(part.rows_skipped == (coding.skip_rows && coding.has_tool_flags()), "the row-skip flag changed");
    expect(part.history_used == (coding.use_history && coding.has_parent && coding.has_tool_flags()),
           "the history flag changed");
  }
  decoder.finish();
  expect(!decoder.failed(), message_of(decoder.status()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  std::vector<std::unique_ptr<Case>> cases;
  int64_t left = kLargest;
  const uint32_t count = 1 + input.tail8() % 3;
  for (uint32_t i = 0; i < count; ++i) {
    Case& c = *cases.emplace_back(std::make_unique<Case>());
    read_tensor(input, left, true, c.tensor);
    const uint32_t tools = input.tail8();
    c.tensor.coding.skip_rows = tools & 1;
    c.tensor.coding.use_history = tools & 2;
    left -= c.tensor.size();
    const int bits = c.tensor.field_bits;
    if (bits != 0) {
      const int64_t raw = input.tail32() & ((uint64_t{1} << bits) - 1);
      c.field = raw >> (bits - 1) ? raw - (int64_t{1} << bits) : raw;
    }
  }
  for (const auto& c : cases) c->levels = read_levels(input, c->tensor.coding);
  try {
    check(cases, Search::kOff);
    check(cases, Search::kReference);
    check(cases, Search::kBest);
  } catch (const Failure& failure) {
    fail(failure.what());
  }
  return 0;
}
