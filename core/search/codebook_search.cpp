#include "search/codebook_search.h"

#include <vector>

#include "coder/level_encoder.h"

namespace netpress {

int64_t codebook_zero_offset(const int32_t* indexes, const Geometry& geometry, int64_t codebook_size, int unary_length,
                             bool first_edition_1_0) {
  TensorCoding coding;
  coding.geometry = geometry;
  coding.geometry.scan_order = 0;
  coding.second_edition = false;
  coding.first_edition_1_0 = first_edition_1_0;
  coding.unary_length = first_edition_1_0 ? unary_length : unary_length - 1;
  std::vector<int32_t> shifted(static_cast<size_t>(geometry.size()));
  int64_t best = 0;
  size_t best_bytes = ~size_t{0};
  for (int64_t offset = 0; offset < codebook_size; ++offset) {
    for (size_t i = 0; i < shifted.size(); ++i) shifted[i] = static_cast<int32_t>(indexes[i] - offset);
    PayloadEncoder encoder;
    encoder.tensor(shifted.data(), coding, Search::kReference);
    const size_t bytes = encoder.finish().size();
    if (bytes < best_bytes) {
      best = offset;
      best_bytes = bytes;
    }
  }
  return best;
}

}  // namespace netpress
