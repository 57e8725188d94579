// Payloads that are cut off or changed end with an error or with other integers, but always end.
#include "check.h"
#include "random_tensor.h"

using namespace netpress;
using namespace netpress::test;

namespace {

// Whether the payload decodes without an error. Owns a copy of exact size: a sanitizer sees any byte read beyond it.
bool decodes(const std::vector<uint8_t>& payload, size_t size, const std::vector<RandomTensor>& tensors, bool fast) {
  const std::vector<uint8_t> copy(payload.begin(), payload.begin() + static_cast<std::ptrdiff_t>(size));
  PayloadDecoder decoder(copy.data(), copy.size(), fast);
  for (const RandomTensor& t : tensors) {
    decoder.field(13);
    std::vector<int32_t> decoded(t.levels.size());
    decoder.tensor(decoded.data(), t.coding);
  }
  decoder.finish();
  return !decoder.failed();
}

}  // namespace

int main() {
  Random random(2);
  for (int round = 0; round < 120; ++round) {
    std::vector<RandomTensor> tensors;
    for (int64_t n = random.between(1, 2); n > 0; --n) tensors.push_back(random_tensor(random, 24, random.coin(3)));
    place = "round " + std::to_string(round) + ", first tensor " + describe(tensors[0]);
    const std::vector<uint8_t> payload = encode_all(tensors, true);
    for (const bool fast : {true, false}) {
      CHECK(decodes(payload, payload.size(), tensors, fast));
      for (size_t size = 0; size < payload.size(); ++size) CHECK(!decodes(payload, size, tensors, fast));
    }
    for (int trial = 0; trial < 60; ++trial) {
      std::vector<uint8_t> damaged = payload;
      for (int64_t n = random.between(1, 4); n > 0; --n) {
        damaged[static_cast<size_t>(random.below(static_cast<int64_t>(damaged.size())))] ^=
            static_cast<uint8_t>(random.coin() ? 1 << random.below(8) : random.below(256));
      }
      if (random.coin(8)) damaged.resize(damaged.size() + static_cast<size_t>(random.below(9)));
      CHECK(decodes(damaged, damaged.size(), tensors, true) == decodes(damaged, damaged.size(), tensors, false));
    }
    for (int trial = 0; trial < 20; ++trial) {
      std::vector<uint8_t> noise(static_cast<size_t>(random.below(400)));
      for (uint8_t& b : noise) b = static_cast<uint8_t>(random.below(256));
      CHECK(decodes(noise, noise.size(), tensors, true) == decodes(noise, noise.size(), tensors, false));
    }
  }
  return result();
}
