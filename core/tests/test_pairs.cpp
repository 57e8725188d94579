// Functions that exist in several versions give the same results, bit for bit. With --bench it also times them; the
// figures are printed and never judged.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "check.h"
#include "pairs.h"
#include "random_tensor.h"

using namespace netpress;
using namespace netpress::test;

namespace {

class RandomDraws : public Draws {
 public:
  explicit RandomDraws(uint64_t seed, bool full = false) : random_(seed), full_(full) {}
  uint32_t parameter() override { return static_cast<uint32_t>(random_.below(int64_t{1} << 32)); }
  uint8_t byte() override { return static_cast<uint8_t>(random_.below(256)); }
  size_t bytes(size_t most) override {
    return full_ ? most : static_cast<size_t>(random_.below(static_cast<int64_t>(most) + 1));
  }

 private:
  Random random_;
  bool full_;
};

void compare(const Pair& pair) {
  for (uint64_t round = 0; round < 300; ++round) {
    place = std::string(pair.name) + " " + std::to_string(round);
    RandomDraws draws(round);
    const Run run = pair.prepare(draws, round % 10 == 0 ? 20000 : 600);
    const Bits scalar = run.run(true);
    CHECK(scalar == run.run(false));
    if (run.definition) CHECK(scalar == run.definition());
  }
}

double nanoseconds(const std::function<void()>& action) {
  const auto start = std::chrono::steady_clock::now();
  action();
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// Median over inputs of the smallest time of either version, whose runs alternate.
void time(const Pair& pair) {
  std::vector<double> scalar, fast;
  for (uint64_t seed = 0; seed < 9; ++seed) {
    RandomDraws draws(seed, true);
    const Run run = pair.prepare(draws, 1 << 15);
    double least[2] = {1e18, 1e18};
    for (int repeat = 0; repeat < 5; ++repeat) {
      for (const bool is_scalar : {true, false}) {
        least[is_scalar] = std::min(least[is_scalar], nanoseconds([&] { run.run(is_scalar); }));
      }
    }
    if (run.values == 0) continue;
    scalar.push_back(least[true] / static_cast<double>(run.values));
    fast.push_back(least[false] / static_cast<double>(run.values));
  }
  std::printf("%-20s scalar %8.2f ns per value, %s %8.2f\n", pair.name, median(scalar), pair.fast, median(fast));
}

// Beside the pairs: with a codebook that is never reached the general loops see the bins of a plain tensor.
void context_search() {
  Random random(5);
  for (int round = 0; round < 600; ++round) {
    RandomTensor t = random_tensor(random, random.coin(6) ? 200 : 40, true);
    t.coding.second_edition = true;
    t.coding.first_edition_1_0 = false;
    place = "search " + describe(t);
    const TensorCoding plain = normalised(t.coding);
    TensorCoding general = plain;
    general.codebook_size = int64_t{1} << 50;
    general.codebook_zero_offset = int64_t{1} << 49;
    std::vector<uint8_t> skipped;
    if (plain.skip_rows) skipped = zero_rows(t.levels.data(), plain.geometry);
    for (const Search search : {Search::kReference, Search::kBest}) {
      CHECK(choose_sets(t.levels.data(), plain, skipped, search) ==
            choose_sets(t.levels.data(), general, skipped, search));
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  const bool bench = count > 1 && std::strcmp(arguments[1], "--bench") == 0;
  for (const Pair& pair : pairs()) {
    if (!pair.exists) std::printf("%s: this machine has no %s\n", pair.name, pair.fast);
    compare(pair);
    if (bench) time(pair);
  }
  context_search();
  return result();
}
