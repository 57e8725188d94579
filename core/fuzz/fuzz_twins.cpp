// Functions that exist twice, plain and with AVX2: the results are the same, bit for bit.
#include <bit>
#include <cmath>
#include <cstring>

#include "search/estimators.h"
#include "input.h"
#include "search/frozen_rate_search.h"
#include "search/distortion_search.h"

using namespace netpress;
using namespace netpress::fuzz;

#if !defined(__x86_64__)
#error "there are no twins on this machine"
#endif

namespace {

template <typename Value>
bool same_bits(const Value* a, const Value* b, size_t count) {
  return count == 0 || std::memcmp(a, b, count * sizeof(Value)) == 0;
}

// Weights whose levels fit 32 bits, as the quantisers check before they call.
std::vector<float> read_weights(Input& input, double reciprocal, uint32_t form) {
  std::vector<float> weights;
  const size_t count = form == 0 ? input.left() / 4 : input.left();
  for (size_t i = 0; i < count; ++i) {
    float w = 0;
    if (form == 0) {
      w = std::bit_cast<float>(input.front32());
    } else if (form == 1) {
      w = static_cast<float>(static_cast<int8_t>(input.front8()) / (16.0 * reciprocal));
    } else {  // on and between the levels
      w = static_cast<float>(static_cast<int8_t>(input.front8()) / (2.0 * reciprocal));
    }
    if (!(std::fabs(static_cast<double>(w) * reciprocal) <= 2147483645.0)) w = static_cast<float>(i % 7) - 3.0f;
    if (!(std::fabs(static_cast<double>(w) * reciprocal) <= 2147483645.0)) w = 0;
    weights.push_back(w);
  }
  return weights;
}

void trellis_twins(const std::vector<float>& weights, double reciprocal) {
  const int64_t count = static_cast<int64_t>(weights.size());
  double plain_cost[8], avx2_cost[8];
  for (int t = 0; t < 8; ++t) plain_cost[t] = avx2_cost[t] = t == 0 ? 0 : 0.5 * 1.7976931348623157e308;
  std::vector<uint16_t> plain(weights.size()), avx2(weights.size());
  trellis_forward_plain(weights.data(), count, reciprocal, plain_cost, plain.data());
  trellis_forward_avx2(weights.data(), count, reciprocal, avx2_cost, avx2.data());
  expect(same_bits(plain.data(), avx2.data(), plain.size()), "trellis_forward: decisions differ");
  expect(same_bits(plain_cost, avx2_cost, 8), "trellis_forward: costs differ");
}

void rd_twins(Input& input, const std::vector<float>& weights, double reciprocal) {
  const int64_t count = static_cast<int64_t>(weights.size());
  FrozenRates rates{};
  const float unit = std::ldexp(1.0f, static_cast<int>(input.tail8() % 48) - 32);
  uint32_t random = input.tail32() | 1;
  const auto rate = [&] {
    random ^= random << 13;
    random ^= random >> 17;
    random ^= random << 5;
    return static_cast<float>(random >> 24) * unit;  // coarse, so that costs tie
  };
  for (auto& row : rates.zero) {
    for (float& r : row) r = rate();
  }
  for (auto& sign : rates.nonzero) {
    for (auto& row : sign) {
      for (float& r : row) r = rate();
    }
  }
  for (auto& sign : rates.magnitude) {
    for (float& r : sign) r = rate();
  }
  float plain_cost[8], avx2_cost[8];
  for (int t = 0; t < 8; ++t) plain_cost[t] = avx2_cost[t] = t == 0 ? 0 : 1e30f;
  std::vector<RdDecision> plain(weights.size()), avx2(weights.size());
  rd_forward_plain(weights.data(), count, reciprocal, rates, plain_cost, plain.data());
  rd_forward_avx2(weights.data(), count, reciprocal, rates, avx2_cost, avx2.data());
  expect(same_bits(plain.data(), avx2.data(), plain.size()), "rd_forward: decisions differ");
  expect(same_bits(plain_cost, avx2_cost, 8), "rd_forward: costs differ");
}

bool same_bank(const EstimatorBank& a, const EstimatorBank& b) {
  for (size_t e = 0; e < kSetCount; ++e) {
    if (a.state[e].fast != b.state[e].fast || a.state[e].slow != b.state[e].slow || a.state[e].set != b.state[e].set ||
        a.cost[e] != b.cost[e]) {
      return false;
    }
  }
  return true;
}

// Several strings over the bins of the input, in two calls: states travel from one to the next.
void estimator_twins(Input& input) {
  const size_t strings = 1 + input.tail8() % 9;
  const uint32_t repeats = 1 + (input.tail8() % 64 == 0 ? 12 : input.tail8() % 3);
  std::vector<std::vector<uint8_t>> bins(strings);
  for (size_t i = 0; input.left() > 0; ++i) {
    const uint32_t byte = input.front8();
    for (int k = 0; k < 8; ++k) bins[i % strings].push_back(static_cast<uint8_t>(byte >> k & 1));
    if (byte == 0) i += byte % 3;
  }
  std::vector<EstimatorBank> plain(strings), avx2(strings);
  for (uint32_t r = 0; r < repeats; ++r) {
    std::vector<BinString> for_plain, for_avx2;
    for (size_t i = 0; i < strings; ++i) {
      const size_t skip = std::min<size_t>(r * i, bins[i].size());
      for_plain.push_back({&plain[i], bins[i].data() + skip, bins[i].size() - skip});
      for_avx2.push_back({&avx2[i], bins[i].data() + skip, bins[i].size() - skip});
    }
    run_estimators_plain(for_plain.data(), strings);
    run_estimators_avx2(for_avx2.data(), strings);
    if (r % 4 == 3) {
      plain[0].restart();
      avx2[0].restart();
    }
  }
  for (size_t i = 0; i < strings; ++i) expect(same_bank(plain[i], avx2[i]), "run_estimators: banks differ");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool has_avx2 = __builtin_cpu_supports("avx2");
  expect(has_avx2, "this machine has no AVX2");
  Input input(data, size);
  const uint32_t what = input.tail8();
  if (what % 3 == 2) {
    estimator_twins(input);
    return 0;
  }
  const uint32_t step = input.tail16();
  // A step as a qp gives it: a mantissa of up to 8 bits and an exponent.
  const double reciprocal = 1.0 / std::ldexp(static_cast<double>(128 + (step & 127)), static_cast<int>(step >> 7 & 63) - 48);
  const uint32_t form = input.tail8() % 3;
  if (what % 3 == 0) {
    trellis_twins(read_weights(input, reciprocal, form), reciprocal);
  } else {
    Input parameters = input;
    for (int i = 0; i < 5; ++i) input.tail8();
    rd_twins(parameters, read_weights(input, reciprocal, form), reciprocal);
  }
  return 0;
}
