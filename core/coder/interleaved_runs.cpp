#include "coder/interleaved_runs.h"

#include <algorithm>
#include <cstring>

#include "base/processor.h"
#include "coder/decoder_kernels.h"
#include "coder/trellis.h"

namespace netpress {

namespace {

constexpr unsigned kSignNodes = 24;
constexpr unsigned kGreaterNodes = 48;
constexpr int kBinsPerRound = 4;
constexpr int kLargestShift = 7;  // of a bin, because no sub-range is smaller than 2
// Registers are filled up to 46 bits or more before a round. Eight bytes are read then, up to seven of which are taken.
static_assert(kBinsPerRound * kLargestShift <= 46 && kBinsPerRound * kLargestShift <= 8 * kBinsPerRound);
constexpr int64_t kInputMargin = 16;

unsigned significance_node(unsigned state, unsigned neighbour) { return 3 * state + neighbour; }
unsigned greater_node(unsigned state, bool negative, int j) {
  return kGreaterNodes + 8 * static_cast<unsigned>(2 * j + negative) + state;
}

}  // namespace

BinMachine::BinMachine(bool dependent, int unary_length)
    : dependent_(dependent),
      layout_(unary_length),
      transitions_(2 * greater_node(0, false, unary_length)) {
  const auto after = [&](unsigned state, int size) { return dependent ? kNextState[state][size & 1] : 0u; };
  for (unsigned state = 0; state < 8; ++state) {
    for (unsigned neighbour = 0; neighbour < 3; ++neighbour) {
      const unsigned first = significance_node(state, neighbour);
      set(first, 0, 0, significance_node(after(state, 0), 0), true);
      set(first, 1, 0, kSignNodes + first, false);
      set(kSignNodes + first, 0, 0, greater_node(state, false, 0), false);
      set(kSignNodes + first, 1, 0, greater_node(state, true, 0), false);
    }
    for (const bool negative : {false, true}) {
      for (int j = 0; j < unary_length; ++j) {
        const unsigned node = greater_node(state, negative, j);
        const int32_t value = negative ? -(j + 1) : j + 1;
        const int64_t level = dependent ? level_from_coded(value, state) : value;
        set(node, 0, static_cast<int>(level), significance_node(after(state, j + 1), negative ? 1 : 2), true);
        if (j + 1 < unary_length) {
          set(node, 1, 0, greater_node(state, negative, j + 1), false);
        } else {
          set(node, 1, 0, node, false);
          transitions_[2 * node + 1].escapes = 1;
        }
      }
    }
  }
}

int BinMachine::context(unsigned node) const {
  if (node < kSignNodes) return ContextLayout::kSignificance + static_cast<int>(node);
  if (node < kGreaterNodes) return ContextLayout::kSign + static_cast<int>(node - kSignNodes) % 3;
  return layout_.greater + static_cast<int>(node - kGreaterNodes) / 8;
}

void BinMachine::set(unsigned node, int bin, int level, unsigned next, bool ends) {
  Transition& t = transitions_[2 * node + static_cast<unsigned>(bin)];
  t.level = static_cast<int16_t>(level);
  t.node_step = static_cast<int16_t>(2 * (static_cast<int>(next) - static_cast<int>(node)));
  t.context_step = static_cast<int16_t>(context(next) - context(node));
  t.ends = ends;
}

void Lane::start(ArithmeticDecoder& with, Context* first_context, const BinMachine& by, int32_t* levels,
                 int64_t count) {
  coder = &with;
  contexts = first_context;
  machine = &by;
  begin = levels;
  out = levels;
  end = levels + count;
  state = with.registers();
  input_end = state.next + with.bytes_left();
  at = by.node(0);
  here = first_context;
  escapes = 0;
  has_escaped = false;
}

int64_t Lane::rounds() const {
  // No bin ends more than one weight or takes more than a byte.
  const int64_t room = std::min<int64_t>(end - out, input_end - state.next - kInputMargin);
  return room < 0 ? 0 : room / kBinsPerRound;
}

void Lane::escape() {
  has_escaped = false;
  ++escapes;
  coder->set_registers(state);
  const unsigned node = machine->index(at) - kGreaterNodes;
  const unsigned from = node & 7;
  const bool negative = node >> 3 & 1;
  const ContextLayout& layout = machine->layout();
  const int64_t size = layout.unary + 1 + decode_remainder(*coder, contexts + layout.prefix);
  const int64_t magnitude = machine->dependent() ? 2 * size - static_cast<int64_t>(from & 1) : size;
  const int64_t level = negative ? -magnitude : magnitude;
  if (size > int64_t{2147483647} + negative || level != static_cast<int32_t>(level)) {
    coder->fail(Status::kValueOutOfRange);
  }
  *out++ = static_cast<int32_t>(level);
  const unsigned next = machine->dependent() ? kNextState[from][size & 1] : 0;
  const unsigned to = significance_node(next, negative ? 1 : 2);
  at = machine->node(to);
  here = contexts + machine->context(to);
  state = coder->registers();
}

void Lane::finish() {
  coder->set_registers(state);
  while (machine->index(at) >= kSignNodes) {  // to the end of the weight that has begun
    const BinMachine::Transition t = at[coder->bin(*here)];
    if (t.escapes) {
      state = coder->registers();
      escape();
      break;
    }
    if (t.ends) *out++ = t.level;
    at += t.node_step;
    here += t.context_step;
  }
  const unsigned node = machine->index(at);
  Neighbourhood n;
  n.state = node / 3;
  n.previous = node % 3 == 0 ? 0 : node % 3 == 1 ? -1 : 1;
  kDecoderKernels.decode_run(*coder, contexts, machine->layout(), machine->dependent(), out, end - out, n);
  out = end;
}

namespace {

// What the loop keeps of a lane.
struct Running {
  uint64_t value;
  uint64_t range;
  int64_t spare;
  const uint8_t* next;
  Context* here;
  const BinMachine::Transition* at;
  int32_t* out;
};

// Bits after the spare ones are in the register already or still 0: they are read again, with the same result.
NETPRESS_INLINE void refill(Running& r) {
  uint64_t word;
  std::memcpy(&word, r.next, sizeof(word));
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  word = __builtin_bswap64(word);
#endif
  r.value |= word >> (64 - ArithmeticDecoder::kPoint + r.spare);
  const int64_t bytes = (ArithmeticDecoder::kPoint - 1 - r.spare) >> 3;
  r.next += bytes;
  r.spare += 8 * bytes;
}

// As ArithmeticDecoder::bin(), and the transition of the machine; returns whether the magnitude escapes.
NETPRESS_INLINE unsigned decode_bin(Running& r) {
  constexpr int kPoint = ArithmeticDecoder::kPoint;
  Context& context = *r.here;
  const int64_t fast = context.fast;
  const int64_t slow = context.slow;
  const int sum = static_cast<int>(slow + 16 * fast);
  const uint64_t lps = lps_range(r.range, sum);
  const uint64_t mps = r.range - lps;
  const uint64_t above = r.value - (mps << kPoint);
  const uint64_t lower = static_cast<uint64_t>(static_cast<int64_t>(above) >> 63);
  r.value = above + (mps << kPoint & lower);
  const uint64_t range = lps + ((mps - lps) & lower);
  const size_t bin = (static_cast<unsigned>(sum) >> 31 ^ static_cast<unsigned>(lower)) & 1;
  const StepTable& steps = kBinTables.steps[2 * size_t{context.set} + bin];
  const int64_t rounding = static_cast<int64_t>(bin) - 1;
  context.fast = static_cast<int16_t>(fast + steps.fast[16 + ((fast + rounding) >> 3)]);
  context.slow = static_cast<int32_t>(slow + steps.slow[16 + ((slow + rounding) >> 7)]);
  const int shift = normalising_shift(range);
  r.range = range << shift;
  r.value <<= shift;
  r.spare -= shift;
  const BinMachine::Transition& t = r.at[bin];
  *r.out = t.level;
  r.out += t.ends;
  r.at += t.node_step;
  r.here += t.context_step;
  return t.escapes;
}

template <int kLanes>
NETPRESS_INLINE void run(Lane* const* lanes, int64_t rounds) {
  Running r[kLanes];
  for (int k = 0; k < kLanes; ++k) {
    const Lane& l = *lanes[k];
    r[k] = {l.state.value, l.state.range, l.state.spare, l.state.next, l.here, l.at, l.out};
  }
  unsigned escaping = 0;
  for (; rounds > 0 && escaping == 0; --rounds) {
    for (int k = 0; k < kLanes; ++k) refill(r[k]);
    for (int b = 0; b < kBinsPerRound; ++b) {
      for (int k = 0; k < kLanes; ++k) escaping |= decode_bin(r[k]) << k;
      if (__builtin_expect(escaping != 0, 0)) break;
    }
  }
  for (int k = 0; k < kLanes; ++k) {
    Lane& l = *lanes[k];
    l.state = {r[k].value, r[k].range, r[k].spare, r[k].next};
    l.here = r[k].here;
    l.at = r[k].at;
    l.out = r[k].out;
    l.has_escaped = escaping >> k & 1;
  }
}

template <int kLanes>
void run_scalar(Lane* const* lanes, int64_t rounds) {
  run<kLanes>(lanes, rounds);
}

#if defined(__x86_64__)
template <int kLanes>
NETPRESS_BMI2 void run_bmi2(Lane* const* lanes, int64_t rounds) {
  run<kLanes>(lanes, rounds);
}
#endif

}  // namespace

void run_lanes_scalar(Lane* const* lanes, int count, int64_t rounds) {
  static constexpr decltype(&run_scalar<1>) kByCount[] = {run_scalar<1>, run_scalar<2>, run_scalar<3>, run_scalar<4>};
  kByCount[count - 1](lanes, rounds);
}

#if defined(__x86_64__)
void run_lanes_bmi2(Lane* const* lanes, int count, int64_t rounds) {
  static constexpr decltype(&run_bmi2<1>) kByCount[] = {run_bmi2<1>, run_bmi2<2>, run_bmi2<3>, run_bmi2<4>};
  kByCount[count - 1](lanes, rounds);
}
#endif

}  // namespace netpress
