// The vectors of the format description, in both directions.
#include <bit>

#include "check.h"
#include "json.h"
#include "coder/level_decoder.h"
#include "coder/level_encoder.h"
#include "quantize/dequantize.h"
#include "quantize/quantizers.h"

using namespace netpress;
using namespace netpress::test;

namespace {

Geometry geometry_of(const Json& v) {
  const auto shape = v["shape"].integers<int64_t>();
  Geometry g;
  g.columns = 1;
  for (size_t i = 1; i < shape.size(); ++i) g.columns *= shape[i];
  g.rows = shape[0];
  g.scan_order = static_cast<int>(v["scan_order"].integer());
  return g;
}

std::vector<uint8_t> bytes_of(const std::string& hex) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i < hex.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::strtoul(hex.substr(i, 2).c_str(), nullptr, 16)));
  }
  return bytes;
}

std::vector<int64_t> packed(const std::vector<EntryPoint>& points) {
  std::vector<int64_t> values;
  for (const EntryPoint& p : points) values.push_back(static_cast<int64_t>(p.distance << 11 | p.value << 3 | p.state));
  return values;
}

void payload(const Json& v, bool fast) {
  const auto levels = v["values"].integers<int32_t>();
  const auto base = v["temporal_base"].integers<int32_t>();
  const auto history = v["hdsp_history"].integers<uint8_t>();
  TensorCoding c;
  c.geometry = geometry_of(v);
  c.second_edition = v["profile"].integer() == 1;
  c.dependent = v["dq_flag"].integer() != 0;
  c.unary_length = static_cast<int>(v["unary_length"].integer());
  c.has_parent = v["parent_flag"].integer() != 0;
  c.skip_rows = v["row_skip"].integer() != 0;
  c.use_history = v["hdsp"].text == "on";
  if (!v["temporal_base"].is_null()) c.base = base.data();
  if (!v["hdsp_history"].is_null()) c.history = history.data();
  c.codebook_size = v["codebook_size"].integer();
  c.codebook_zero_offset = v["codebook_zero_offset"].integer();
  const int qp_bits = static_cast<int>(v["qp_bits"].integer());
  const auto points = v["entry_points"].integers<int64_t>();

  PayloadEncoder encoder(fast);
  if (qp_bits > 0) encoder.field(v["qp_value"].integer(), qp_bits);
  encoder.tensor(levels.data(), c, v["param_opt"].integer() ? Search::kReference : Search::kOff);
  const std::vector<uint8_t> coded = encoder.finish();
  CHECK(coded == bytes_of(v["payload"].text));
  CHECK(packed(encoder.entry_points()[0]) == points);

  PayloadDecoder decoder(coded.data(), coded.size(), fast);
  if (qp_bits > 0) CHECK(decoder.field(qp_bits) == v["qp_value"].integer());
  std::vector<int32_t> decoded(levels.size(), 77);
  const DecodedPart part = decoder.tensor(decoded.data(), c);
  decoder.finish();
  CHECK(decoder.status() == Status::kOk);
  CHECK(decoded == (v["decoded"].is_null() ? levels : v["decoded"].integers<int32_t>()));
  CHECK(packed(part.entry_points) == points);
}

void quantizer(const Json& v) {
  std::vector<float> weights;
  for (const Json& h : v["weights_f32_hex"].list) weights.push_back(std::bit_cast<float>(h.hex()));
  QuantizerSettings s;
  s.geometry = geometry_of(v);
  if (!s.geometry.matrix_like()) s.geometry.scan_order = 0;
  s.qp_density = static_cast<int>(v["qp_density"].integer());
  s.lambda_scale = static_cast<float>(v["lambda_scale"].real());
  s.unary_length = static_cast<int>(v["rate_unary_length"].integer()) + 1;
  std::vector<int32_t> levels(weights.size());
  const auto quantize = v["dq_flag"].integer() ? quantize_trellis : quantize_uniform;
  CHECK(quantize(weights.data(), levels.data(), s, v["qp"].integer()) == v["qp_out"].integer());
  CHECK(levels == v["levels"].integers<int32_t>());
  std::vector<uint32_t> values(weights.size());
  dequantize_uniform(levels.data(), values.data(), static_cast<int64_t>(levels.size()),
                     std::bit_cast<float>(v["step_f32_hex"].hex()));
  for (size_t i = 0; i < values.size(); ++i) CHECK(values[i] == v["reconstructed_f32_hex"].list[i].hex());
}

}  // namespace

int main() {
  const std::string folder = NETPRESS_VECTORS;
  const Json payloads = JsonReader(folder + "/payload_vectors.json").read();
  const Json quantizers = JsonReader(folder + "/quantizer_vectors.json").read();
  CHECK(payloads.list.size() > 50 && quantizers.list.size() > 10);
  for (const Json& v : payloads.list) {
    place = v["name"].text;
    payload(v, true);
    payload(v, false);
  }
  for (const Json& v : quantizers.list) {
    place = v["name"].text;
    quantizer(v);
  }
  return result();
}
