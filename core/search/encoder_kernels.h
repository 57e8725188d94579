// The functions of encoder, searches and quantisers that exist in several versions with equal results, as this
// processor runs them best: chosen once, when the library is loaded.
#pragma once

#include "coder/run_encoder.h"
#include "search/carried_search.h"
#include "search/distortion_search.h"
#include "search/estimators.h"
#include "search/feedback_search.h"
#include "search/frozen_rate_search.h"
#include "search/nncodec_rate_search.h"

namespace netpress {

struct EncoderKernels {
  decltype(&encode_run_scalar) encode_run = encode_run_scalar;
  decltype(&run_estimators_scalar) run_estimators = run_estimators_scalar;
  decltype(&distortion_forward_scalar) distortion_forward = distortion_forward_scalar;
  decltype(&nncodec_rate_forward_scalar) nncodec_rate_forward = nncodec_rate_forward_scalar;
  decltype(&frozen_rate_forward_scalar) frozen_rate_forward = frozen_rate_forward_scalar;
  decltype(&feedback_step_scalar) feedback_step = feedback_step_scalar;
  decltype(&carried_forward_scalar) carried_forward = carried_forward_scalar;
};

extern const EncoderKernels kEncoderKernels;

}  // namespace netpress
