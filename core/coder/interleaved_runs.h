// Decodes the weights of several tensors bin by bin in turn. One decoder is a chain of dependent steps, and branches on
// its bins can hardly be predicted; here the binarisation is a table instead of branches, and while one chain waits,
// the others go on. Equal to the runs of coder/run_decoder.h for every tensor.
#pragma once

#include <cstdint>
#include <vector>

#include "coder/arithmetic_decoder.h"
#include "coder/contexts.h"

namespace netpress {

// The binarisation of the weights of a tensor as a machine: each node is a bin with its context. Nodes 0 .. 23 are the
// significance flags in the order of their contexts, so that a weight begins and ends in one of them. Source: ISO/IEC
// 15938-17, binarisation of quantised weights.
class BinMachine {
 public:
  // What a bin does, from node and context in front of it to those after it.
  struct Transition {
    int16_t level;         // of a weight that ends; 0 within a weight
    int16_t node_step;     // in transitions
    int16_t context_step;  // in contexts
    uint8_t ends;          // 1 if the weight ends
    uint8_t escapes;       // 1 if the magnitude goes on after the unary part; the node stays
  };

  BinMachine(bool dependent, int unary_length);

  bool dependent() const { return dependent_; }
  const ContextLayout& layout() const { return layout_; }
  const Transition* node(unsigned index) const { return transitions_.data() + 2 * index; }
  unsigned index(const Transition* node) const { return static_cast<unsigned>(node - transitions_.data()) / 2; }
  int context(unsigned node) const;

 private:
  void set(unsigned node, int bin, int level, unsigned next, bool ends);

  bool dependent_;
  ContextLayout layout_;
  std::vector<Transition> transitions_;
};

// The weights of one tensor on their way. `coder` and `contexts` belong to the tensor; the registers of the coder are
// in `state` while the lane runs.
struct Lane {
  void start(ArithmeticDecoder& with, Context* first_context, const BinMachine& by, int32_t* levels, int64_t count);

  // Rounds of bins that need no look at the ends of payload and tensor.
  int64_t rounds() const;

  // Decodes the rest of a magnitude that leaves the unary part. To be called where `has_escaped` is set. A value that
  // there is not is a failure of `coder`.
  void escape();

  int64_t decoded() const { return out - begin; }

  // Decodes all the weights that are left.
  void finish();

  ArithmeticDecoder::Registers state;
  Context* here;
  const BinMachine::Transition* at;
  int32_t* begin;
  int32_t* out;
  int32_t* end;
  const uint8_t* input_end;
  Context* contexts;
  ArithmeticDecoder* coder;
  const BinMachine* machine;
  int64_t escapes;
  bool has_escaped;
};

inline constexpr int kMostLanes = 4;

// Runs 1 .. kMostLanes lanes for up to `rounds` rounds each; stops early where one escapes. Two versions with equal
// results; kDecoderKernels has the one to use.
void run_lanes_scalar(Lane* const* lanes, int count, int64_t rounds);

#if defined(__x86_64__)
void run_lanes_bmi2(Lane* const* lanes, int count, int64_t rounds);
#endif

}  // namespace netpress
