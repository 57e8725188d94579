#include "coder/decoder_kernels.h"

#include "base/processor.h"

namespace netpress {

const DecoderKernels kDecoderKernels = [] {
  DecoderKernels kernels;
#if defined(__x86_64__)
  if (has_bmi2()) {
    kernels.decode_run = decode_run_bmi2;
    kernels.run_lanes = run_lanes_bmi2;
  }
#endif
  return kernels;
}();

}  // namespace netpress
