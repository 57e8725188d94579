// Picks the estimator parameter set of every context before a tensor is coded.
#pragma once

#include <cstdint>
#include <vector>

#include "coder/tensor_coding.h"

namespace netpress {

enum class Search { kOff, kReference, kBest };

// One set per context index. `skipped` is empty or the rows that are not coded.
//
// kReference decides as NNCodec does, on bins that differ a little from those that are coded; kBest decides on the bins
// that are coded and counts the real cost of signalling.
std::vector<uint8_t> choose_sets(const int32_t* levels, const TensorCoding& coding,
                                 const std::vector<uint8_t>& skipped, Search search);

}  // namespace netpress
