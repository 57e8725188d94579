// Random tensors under all options come back, alone and with others in one codeword.
#include "check.h"
#include "random_tensor.h"

using namespace netpress;
using namespace netpress::test;

int main() {
  Random random(1);
  for (int round = 0; round < 1500; ++round) {
    std::vector<RandomTensor> tensors;
    for (int64_t n = random.between(1, 3); n > 0; --n) {
      tensors.push_back(random_tensor(random, random.coin(8) ? 150 : 40, random.coin(3)));
    }
    place = "round " + std::to_string(round) + ", first tensor " + describe(tensors[0]);
    std::vector<std::vector<EntryPoint>> points;
    const std::vector<uint8_t> payload = encode_all(tensors, true, &points);
    CHECK(payload == encode_all(tensors, false));
    for (const bool fast : {true, false}) {
      PayloadDecoder decoder(payload.data(), payload.size(), fast);
      for (size_t i = 0; i < tensors.size(); ++i) {
        const RandomTensor& t = tensors[i];
        CHECK(decoder.field(13) == static_cast<int64_t>(i) - 1);
        std::vector<int32_t> decoded(t.levels.size() + 1, 77);
        const DecodedPart part = decoder.tensor(decoded.data(), t.coding);
        CHECK(decoded.back() == 77);
        decoded.pop_back();
        CHECK(decoded == t.levels);
        CHECK(part.entry_points == points[i]);
        const TensorCoding c = normalised(t.coding);
        CHECK(part.rows_skipped == (c.has_tool_flags() && c.skip_rows));
        CHECK(part.history_used == (c.has_tool_flags() && c.has_parent && c.use_history));
      }
      decoder.finish();
      CHECK(decoder.status() == Status::kOk);
    }
  }
  return result();
}
