// The functions of the decoder that exist in several versions with equal results, as this processor runs them best:
// chosen once, when the library is loaded. The encoder's are in search/encoder_kernels.h, so that a decoder links
// neither encoder nor search.
#pragma once

#include "coder/interleaved_runs.h"
#include "coder/run_decoder.h"

namespace netpress {

struct DecoderKernels {
  decltype(&decode_run_scalar) decode_run = decode_run_scalar;
  decltype(&run_lanes_scalar) run_lanes = run_lanes_scalar;
};

extern const DecoderKernels kDecoderKernels;

}  // namespace netpress
