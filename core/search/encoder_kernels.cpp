#include "search/encoder_kernels.h"

#include "base/processor.h"

namespace netpress {

const EncoderKernels kEncoderKernels = [] {
  EncoderKernels kernels;
#if defined(__x86_64__)
  if (has_bmi2()) kernels.encode_run = encode_run_bmi2;
  if (has_avx2()) {
    kernels.run_estimators = run_estimators_avx2;
    kernels.distortion_forward = distortion_forward_avx2;
    kernels.nncodec_rate_forward = nncodec_rate_forward_avx2;
    kernels.frozen_rate_forward = frozen_rate_forward_avx2;
    kernels.feedback_step = feedback_step_avx2;
    kernels.carried_forward = carried_forward_avx2;
  }
#endif
  return kernels;
}();

}  // namespace netpress
