// Functions that exist in a plain and in a fast version give the same results, bit for bit.
#include <cfloat>
#include <cstring>

#include "check.h"
#include "search/context_search.h"
#include "search/estimators.h"
#include "search/frozen_rates.h"
#include "quantize/feedback.h"
#include "random_tensor.h"
#include "search/nncodec_rate_search.h"
#include "search/frozen_rate_search.h"
#include "coder/trellis.h"
#include "search/distortion_search.h"

using namespace netpress;
using namespace netpress::test;

namespace {

bool same_banks(const EstimatorBank& a, const EstimatorBank& b) {
  for (size_t e = 0; e < kSetCount; ++e) {
    if (a.state[e].fast != b.state[e].fast || a.state[e].slow != b.state[e].slow) return false;
    if (a.cost[e] != b.cost[e]) return false;
  }
  return true;
}

// With a codebook that is never reached the general loops see the bins of a plain tensor.
void searches() {
  Random random(5);
  for (int round = 0; round < 600; ++round) {
    RandomTensor t = random_tensor(random, random.coin(6) ? 200 : 40, true);
    t.coding.second_edition = true;
    t.coding.first_edition_1_0 = false;
    place = "search " + describe(t);
    t.coding.normalise();
    TensorCoding general = t.coding;
    general.codebook_size = int64_t{1} << 50;
    general.codebook_zero_offset = int64_t{1} << 49;
    std::vector<uint8_t> skipped;
    if (t.coding.skip_rows) skipped = zero_rows(t.levels.data(), t.coding.geometry);
    for (const Search search : {Search::kReference, Search::kBest}) {
      CHECK(choose_sets(t.levels.data(), t.coding, skipped, search) ==
            choose_sets(t.levels.data(), general, skipped, search));
    }
  }
}

void rate_trellises() {
  Random random(8);
  for (int round = 0; round < 200; ++round) {
    const int64_t count = random.below(400);
    const int unary_length = random.coin(3) ? static_cast<int>(random.between(0, 3)) : 10;
    place = "rate trellis " + std::to_string(round);
    const float scale = random.coin(5) ? 250000.0f : random.coin(3) ? 0.013f : 0.0013f;
    std::vector<float> weights;
    for (int64_t i = 0; i < count; ++i) {
      weights.push_back(random.coin(4) ? 0.0f : static_cast<float>(random.between(-2000, 2000)) * scale);
    }
    // So small a lambda that no cost is finite, too.
    const double lambda = random.coin(10) ? 1e-307 : random.coin() ? 0.3 : 30;
    const RateSearch search{random.coin() ? 0.5 : 1.0 / 0.37, 32768.0 / lambda, unary_length};
    std::vector<uint16_t> plain(weights.size()), fast(weights.size());
    double plain_cost[8], fast_cost[8];
    for (int t = 0; t < 8; ++t) plain_cost[t] = fast_cost[t] = t == 0 ? 0 : 0.5 * DBL_MAX;
    rate_forward_plain(weights.data(), count, search, plain_cost, plain.data());
    rate_forward_portable(weights.data(), count, search, fast_cost, fast.data());
    CHECK(plain == fast);
    CHECK(std::memcmp(plain_cost, fast_cost, sizeof(plain_cost)) == 0);
    for (int t = 0; t < 8; ++t) fast_cost[t] = t == 0 ? 0 : 0.5 * DBL_MAX;
    rate_forward(weights.data(), count, search, fast_cost, fast.data());  // in vector registers where there are any
    CHECK(plain == fast);
    CHECK(std::memcmp(plain_cost, fast_cost, sizeof(plain_cost)) == 0);
  }
}

// The path keeps to the machine, too.
bool on_path(const std::vector<int32_t>& levels, unsigned state) {
  for (const int32_t level : levels) {
    const int32_t coded = coded_from_level(level, state);
    if (level_from_coded(coded, state) != level) return false;
    state = kNextState[state][coded & 1];
  }
  return true;
}

void feedback() {
  Random random(9);
  for (int round = 0; round < 200; ++round) {
    place = "feedback " + std::to_string(round);
    FeedbackForm form;
    form.groups = random.coin(3) ? random.between(1, 4) : 1;
    form.rows = form.groups * random.between(1, 6);
    form.columns = random.coin() ? random.between(1, 12) : random.between(60, 200);
    form.block = random.coin(3) ? random.between(1, form.columns) : form.columns;
    const auto numbers = [&](int64_t count, float scale, int64_t least) {
      std::vector<float> result;
      for (int64_t i = 0; i < count; ++i) result.push_back(static_cast<float>(random.between(least, 1000)) * scale);
      return result;
    };
    const std::vector<float> weights = numbers(form.rows * form.columns, 0.003f, -1000);
    const std::vector<float> targets = numbers(form.rows * form.columns, 0.003f, -1000);
    const std::vector<float> influence = numbers(form.groups * form.columns * form.block, 0.0003f, -1000);
    const std::vector<float> importance = numbers(form.groups * form.columns, 0.001f, 0);
    const std::vector<float> rows = numbers(form.rows, 0.002f, 0);
    form.influence = influence.data();
    form.importance = importance.data();
    if (random.coin()) form.row_importance = rows.data();
    if (random.coin(4)) form.targets = targets.data();
    std::vector<float> row_influence;
    if (form.groups == 1 && random.coin()) {
      form.row_block = random.between(1, form.rows);
      row_influence = numbers(form.rows * form.row_block, 0.0003f, -1000);
      form.row_influence = row_influence.data();
    }
    FeedbackSettings settings;
    settings.dependent = !random.coin(5);
    settings.reciprocal = random.coin() ? 1.7f : random.coin() ? 0.11f : 900.0f;
    settings.start_state = static_cast<int>(random.below(8));
    std::vector<int32_t> fast(weights.size()), plain(weights.size());
    FrozenRates rates;
    for (int pass = 0; pass < 2; ++pass) {
      settings.plain = false;
      const int fast_state = quantize_feedback(weights.data(), fast.data(), form, settings);
      settings.plain = true;
      const int plain_state = quantize_feedback(weights.data(), plain.data(), form, settings);
      CHECK(fast == plain);
      CHECK(fast_state == plain_state);
      if (settings.dependent) CHECK(on_path(fast, static_cast<unsigned>(settings.start_state)));
      const ContextLayout layout(11);
      const auto count = static_cast<int64_t>(fast.size());
      rates = freeze(count_bins(fast.data(), count, layout, settings.dependent), layout, 0.1);
      settings.rates = &rates;
    }
  }
}

#if defined(__x86_64__)

void estimators() {
  Random random(6);
  for (int round = 0; round < 60; ++round) {
    place = "estimators " + std::to_string(round);
    const size_t count = static_cast<size_t>(random.between(1, 12));
    std::vector<EstimatorBank> plain(count), fast(count);
    for (int part = 0; part < 3; ++part) {
      std::vector<std::vector<uint8_t>> bins(count);
      std::vector<BinString> for_plain, for_fast;
      for (size_t i = 0; i < count; ++i) {
        const int64_t odds = random.coin(4) ? 1000 : random.between(2, 30);
        const bool rare = random.coin();
        for (int64_t n = random.below(random.coin(4) ? 9000 : 200); n > 0; --n) {
          bins[i].push_back(random.coin(odds) == rare);
        }
        for_plain.push_back({&plain[i], bins[i].data(), bins[i].size()});
        for_fast.push_back({&fast[i], bins[i].data(), bins[i].size()});
      }
      run_estimators_plain(for_plain.data(), count);
      run_estimators_avx2(for_fast.data(), count);
    }
    for (size_t i = 0; i < count; ++i) CHECK(same_banks(plain[i], fast[i]));
  }
}

void trellises() {
  Random random(7);
  for (int round = 0; round < 100; ++round) {
    place = "trellis " + std::to_string(round);
    const int64_t count = random.below(600);
    std::vector<float> weights;
    for (int64_t i = 0; i < count; ++i) {
      weights.push_back(static_cast<float>(random.between(-4000, 4000)) * (random.coin(3) ? 0.25f : 0.013f));
    }
    const double reciprocal = random.coin() ? 0.5 : 1.0 / 0.37;
    std::vector<uint16_t> plain(weights.size()), fast(weights.size());
    double plain_cost[8], fast_cost[8];
    for (int t = 0; t < 8; ++t) plain_cost[t] = fast_cost[t] = t == 0 ? 0 : 0.5 * DBL_MAX;
    trellis_forward_plain(weights.data(), count, reciprocal, plain_cost, plain.data());
    trellis_forward_avx2(weights.data(), count, reciprocal, fast_cost, fast.data());
    CHECK(plain == fast);
    CHECK(std::memcmp(plain_cost, fast_cost, sizeof(plain_cost)) == 0);

    FrozenRates rates;
    const auto rate = [&] { return static_cast<float>(random.below(64)) / 8; };  // coarse, so that costs tie
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
    std::vector<RdDecision> plain_rd(weights.size()), fast_rd(weights.size());
    float plain_sums[8], fast_sums[8];
    for (int t = 0; t < 8; ++t) plain_sums[t] = fast_sums[t] = t == 0 ? 0 : 1e30f;
    rd_forward_plain(weights.data(), count, reciprocal, rates, plain_sums, plain_rd.data());
    rd_forward_avx2(weights.data(), count, reciprocal, rates, fast_sums, fast_rd.data());
    CHECK(std::memcmp(plain_sums, fast_sums, sizeof(plain_sums)) == 0);
    CHECK(count == 0 || std::memcmp(plain_rd.data(), fast_rd.data(), plain_rd.size() * sizeof(RdDecision)) == 0);
  }
}

#endif

}  // namespace

int main() {
  searches();
  rate_trellises();
  feedback();
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) {
    estimators();
    trellises();
  }
#endif
  return result();
}
