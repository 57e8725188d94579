// The decoder without encoder, search, quantisation and exceptions: linked to libnetpress_decoder alone and compiled
// like it. It decodes a vector of the format description; a damaged payload is an error and nothing worse.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "check.h"
#include "coder/batch_decoder.h"

#if defined(__cpp_exceptions)
#error "this test is for a build without exceptions"
#endif

using namespace netpress;
using namespace netpress::test;

namespace {

// The first member of that name after `from`, as it stands in the file.
std::string member(const std::string& text, size_t from, const std::string& name) {
  size_t begin = text.find("\"" + name + "\"", from);
  begin = text.find_first_not_of(" ", text.find(':', begin) + 1);
  const size_t end = text[begin] == '[' ? text.find(']', begin) : text.find_first_of(",}\n", begin);
  return text.substr(begin, end - begin);
}

std::vector<int32_t> integers(std::string list) {
  std::vector<int32_t> values;
  const char* at = list.c_str() + 1;
  for (char* end = nullptr;; at = end + (*end == ',')) {
    const long value = std::strtol(at, &end, 10);
    if (end == at) return values;
    values.push_back(static_cast<int32_t>(value));
  }
}

std::vector<uint8_t> bytes_of(const std::string& quoted) {
  std::vector<uint8_t> bytes;
  for (size_t i = 1; i + 2 < quoted.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::strtoul(quoted.substr(i, 2).c_str(), nullptr, 16)));
  }
  return bytes;
}

struct Decoded {
  Status status;
  std::vector<int32_t> levels;
};

Decoded decode(const std::vector<uint8_t>& payload, const TensorCoding& coding, int field_bits) {
  Decoded decoded{Status::kOk, std::vector<int32_t>(static_cast<size_t>(coding.geometry.size()))};
  PayloadDecoder decoder(payload.data(), payload.size());
  decoder.field(field_bits);
  decoder.tensor(decoded.levels.data(), coding);
  decoder.finish();
  decoded.status = decoder.status();
  return decoded;
}

Status decode_in_batch(const std::vector<uint8_t>& payload, const TensorCoding& coding, int field_bits,
                       std::vector<int32_t>& levels) {
  BatchDecoder batch;
  BatchUnit& unit = batch.add();
  unit.data = payload.data();
  unit.size = payload.size();
  BatchPart& part = unit.parts.emplace_back();
  part.coding = coding;
  part.levels = levels.data();
  part.field_bits = field_bits;
  batch.run();
  return batch.units()[0].status;
}

// Every vector that needs no other array.
int decode_vectors(const std::string& text) {
  int count = 0;
  for (size_t at = text.find("\"name\""); at != std::string::npos; at = text.find("\"name\"", at + 1)) {
    const auto number = [&](const char* name) { return std::strtoll(member(text, at, name).c_str(), nullptr, 10); };
    if (member(text, at, "temporal_base") != "null" || member(text, at, "hdsp_history") != "null") continue;
    if (member(text, at, "decoded") != "null") continue;
    place = member(text, at, "name");
    TensorCoding c;
    const std::vector<int32_t> shape = integers(member(text, at, "shape"));
    c.geometry.rows = shape[0];
    c.geometry.columns = 1;
    for (size_t i = 1; i < shape.size(); ++i) c.geometry.columns *= shape[i];
    c.geometry.scan_order = static_cast<int>(number("scan_order"));
    c.second_edition = number("profile") == 1;
    c.dependent = number("dq_flag") != 0;
    c.unary_length = static_cast<int>(number("unary_length"));
    c.has_parent = number("parent_flag") != 0;
    c.codebook_size = number("codebook_size");
    c.codebook_zero_offset = number("codebook_zero_offset");
    const int field_bits = static_cast<int>(number("qp_bits"));
    const std::vector<int32_t> expected = integers(member(text, at, "values"));
    const std::vector<uint8_t> payload = bytes_of(member(text, at, "payload"));

    const Decoded decoded = decode(payload, c, field_bits);
    CHECK(decoded.status == Status::kOk);
    CHECK(decoded.levels == expected);
    std::vector<int32_t> in_batch(expected.size());
    CHECK(decode_in_batch(payload, c, field_bits, in_batch) == Status::kOk);
    CHECK(in_batch == expected);
    for (size_t size = 0; size < payload.size(); ++size) {
      const std::vector<uint8_t> shorter(payload.begin(), payload.begin() + static_cast<std::ptrdiff_t>(size));
      CHECK(decode(shorter, c, field_bits).status != Status::kOk);
      CHECK(decode_in_batch(shorter, c, field_bits, in_batch) != Status::kOk);
    }
    for (size_t bit = 0; bit < 8 * payload.size(); ++bit) {
      std::vector<uint8_t> damaged = payload;
      damaged[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
      const bool fails = decode(damaged, c, field_bits).status != Status::kOk;
      CHECK(fails == (decode_in_batch(damaged, c, field_bits, in_batch) != Status::kOk));
    }
    ++count;
  }
  return count;
}

}  // namespace

int main() {
  std::ifstream file(std::string(NETPRESS_VECTORS) + "/payload_vectors.json");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  CHECK(decode_vectors(text) > 20);
  return result();
}
