#include "quantize/dequantize.h"

#include <cmath>
#include <cstring>
#include <vector>

namespace netpress {

double step_size(int64_t qp, int qp_density) {
  const int64_t k = int64_t{1} << qp_density;
  const double mul = static_cast<double>(k + (qp & (k - 1)));
  return std::ldexp(mul, static_cast<int>((qp >> qp_density) - qp_density));
}

void dequantize_uniform(const int32_t* levels, void* values, int64_t count, float step) {
  char* out = static_cast<char*>(values);
  for (int64_t i = 0; i < count; ++i) {
    // Level 0 stands for +0.0 also where the step is not finite.
    const float value = levels[i] == 0 ? 0.0f : static_cast<float>(levels[i]) * step;
    std::memcpy(out + 4 * i, &value, 4);
  }
}

Status dequantize_codebook(const int32_t* indexes, void* values, int64_t count, const int32_t* codebook,
                         int64_t codebook_size, int64_t zero_offset, double step) {
  std::vector<float> entries(static_cast<size_t>(codebook_size));
  for (int64_t i = 0; i < codebook_size; ++i) {
    entries[static_cast<size_t>(i)] = static_cast<float>(static_cast<double>(codebook[i]) * step);
  }
  char* out = static_cast<char*>(values);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t index = indexes[i] + zero_offset;
    if (index < 0 || index >= codebook_size) return Status::kIndexOutOfRange;
    std::memcpy(out + 4 * i, &entries[static_cast<size_t>(index)], 4);
  }
  return Status::kOk;
}

}  // namespace netpress
