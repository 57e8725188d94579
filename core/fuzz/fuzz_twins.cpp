// Functions that exist in several versions: the results are the same, bit for bit. The pairs are those of the tests.
#include "base/processor.h"
#include "input.h"
#include "../tests/pairs.h"

using namespace netpress;
using namespace netpress::fuzz;

#if !defined(__x86_64__)
#error "there are no twins on this machine"
#endif

namespace {

class InputDraws : public test::Draws {
 public:
  explicit InputDraws(Input& input) : input_(input) {}
  uint32_t parameter() override { return input_.tail16(); }
  uint8_t byte() override { return static_cast<uint8_t>(input_.front8()); }
  size_t bytes(size_t most) override { return std::min(most, input_.left()); }

 private:
  Input& input_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool has_all = has_avx2() && has_bmi2();
  expect(has_all, "this machine has no AVX2 or no BMI2");
  Input input(data, size);
  const std::vector<test::Pair>& pairs = test::pairs();
  const test::Pair& pair = pairs[input.tail8() % pairs.size()];
  InputDraws draws(input);
  const test::Run run = pair.prepare(draws, 8 * input.left());
  const test::Bits scalar = run.run(true);
  expect(scalar == run.run(false), pair.name);
  if (run.definition) expect(scalar == run.definition(), pair.name);
  return 0;
}
