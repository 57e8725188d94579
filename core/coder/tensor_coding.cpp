#include "coder/tensor_coding.h"

namespace netpress {

Status TensorCoding::normalise() {
  if (!geometry.matrix_like()) {
    geometry.scan_order = 0;
    // A vector is one long row: the same order, one segment.
    geometry.columns = geometry.size();
    geometry.rows = 1;
  }
  if (geometry.scan_order < 0 || geometry.scan_order > 4 || unary_length < 0 || unary_length > 256) {
    return Status::kBadParameter;
  }
  if (codebook_size < 0 || (codebook_size > 0 && (codebook_zero_offset < 0 || codebook_zero_offset >= codebook_size))) {
    return Status::kBadParameter;
  }
  return Status::kOk;
}

std::vector<Context> fresh_contexts(int unary_length) {
  std::vector<Context> contexts(static_cast<size_t>(ContextLayout(unary_length).count));
  for (Context& c : contexts) c.reset(0);
  return contexts;
}

}  // namespace netpress
