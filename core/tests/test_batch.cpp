// A batch, in which the bins of several tensors alternate, gives what each payload gives alone: integers, flags, entry
// points, values, and failures where the payload is damaged.
#include <cstring>
#include <thread>

#include "coder/batch_decoder.h"
#include "check.h"
#include "quantize/dequantize.h"
#include "random_tensor.h"

using namespace netpress;
using namespace netpress::test;

namespace {

constexpr int kFieldBits = 13;

struct Expected {
  std::vector<std::vector<int32_t>> levels;
  std::vector<DecodedPart> parts;
  std::vector<int64_t> fields;
  Status status = Status::kOk;
};

Expected decode_alone(const std::vector<uint8_t>& payload, const std::vector<RandomTensor>& tensors) {
  Expected expected;
  PayloadDecoder decoder(payload.data(), payload.size(), false);
  for (const RandomTensor& t : tensors) {
    expected.fields.push_back(decoder.field(kFieldBits));
    std::vector<int32_t>& levels = expected.levels.emplace_back(t.levels.size());
    expected.parts.push_back(decoder.tensor(levels.data(), t.coding));
  }
  decoder.finish();
  expected.status = decoder.status();
  return expected;
}

void damage(Random& random, std::vector<uint8_t>& payload) {
  const auto any = [&] { return static_cast<size_t>(random.below(static_cast<int64_t>(payload.size()))); };
  if (random.coin()) {
    payload[any()] ^= static_cast<uint8_t>(1 << random.below(8));
  } else {
    payload.resize(any());
  }
}

// Many small tensors, few large ones; magnitudes after the unary part in some of them.
RandomTensor tensor_for(Random& random) {
  const int64_t edge = random.coin(6) ? 180 : random.coin(3) ? 3 : 40;
  RandomTensor t = random_tensor(random, edge, !random.coin(6));
  if (random.coin()) t.coding.geometry.scan_order = 0;
  return t;
}

bool same_values(const std::vector<int32_t>& levels, const std::vector<int32_t>& decoded, int64_t qp, int qp_density) {
  std::vector<float> values(levels.size());
  dequantize_uniform(levels.data(), values.data(), static_cast<int64_t>(levels.size()),
                     static_cast<float>(step_size(qp, qp_density)));
  return levels.empty() || std::memcmp(values.data(), decoded.data(), values.size() * sizeof(float)) == 0;
}

}  // namespace

int main() {
  Random random(11);
  for (int round = 0; round < 150; ++round) {
    const size_t count = static_cast<size_t>(random.between(1, 14));
    std::vector<std::vector<RandomTensor>> tensors(count);
    std::vector<std::vector<uint8_t>> payloads(count);
    std::vector<Expected> expected(count);
    std::vector<std::vector<std::vector<int32_t>>> outputs(count);
    BatchDecoder batch;
    const bool dequantizes = random.coin();
    for (size_t u = 0; u < count; ++u) {
      for (int64_t n = random.coin(4) ? 3 : 1; n > 0; --n) tensors[u].push_back(tensor_for(random));
      place = "round " + std::to_string(round) + ", unit " + std::to_string(u) + ", " + describe(tensors[u][0]);
      payloads[u] = encode_all(tensors[u], true);
      if (random.coin(5)) damage(random, payloads[u]);
      expected[u] = decode_alone(payloads[u], tensors[u]);
      outputs[u].reserve(tensors[u].size());
      BatchUnit& unit = batch.add();
      unit.data = payloads[u].data();
      unit.size = payloads[u].size();
      for (const RandomTensor& t : tensors[u]) {
        BatchPart part;
        part.coding = t.coding;
        part.levels = outputs[u].emplace_back(t.levels.size() + 1, 77).data();
        part.field_bits = kFieldBits;
        part.dequantizes = dequantizes;
        part.base_qp = -20;
        part.qp_density = 2;
        unit.parts.push_back(part);
      }
    }
    std::vector<std::thread> threads;
    for (int64_t n = random.below(3); n > 0; --n) threads.emplace_back([&] { batch.run(); });
    batch.run();
    for (std::thread& thread : threads) thread.join();
    for (size_t u = 0; u < count; ++u) {
      place = "round " + std::to_string(round) + ", unit " + std::to_string(u) + ", " + describe(tensors[u][0]);
      const BatchUnit& unit = batch.units()[u];
      CHECK((unit.status == Status::kOk) == (expected[u].status == Status::kOk));
      for (size_t i = 0; i < unit.parts.size(); ++i) CHECK(outputs[u][i].back() == 77);
      if (unit.status != Status::kOk || expected[u].status != Status::kOk) continue;
      for (size_t i = 0; i < unit.parts.size(); ++i) {
        const BatchPart& part = unit.parts[i];
        const DecodedPart& alone = expected[u].parts[i];
        CHECK(part.field == expected[u].fields[i]);
        CHECK(part.decoded.history_used == alone.history_used);
        CHECK(part.decoded.rows_skipped == alone.rows_skipped);
        CHECK(part.decoded.entry_points == alone.entry_points);
        outputs[u][i].pop_back();
        CHECK(dequantizes ? same_values(expected[u].levels[i], outputs[u][i], part.base_qp + part.field, 2)
                          : outputs[u][i] == expected[u].levels[i]);
      }
    }
  }
  return result();
}
