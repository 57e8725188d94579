// The functions of the core that exist in several versions with equal results, each with a way to draw an input and to
// run a version on it. The tests compare the versions and time them, the fuzzer compares them on inputs of its own.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "base/processor.h"
#include "coder/arithmetic_decoder.h"
#include "coder/arithmetic_encoder.h"
#include "coder/decoder_kernels.h"
#include "coder/tensor_coding.h"
#include "quantize/feedback.h"
#include "search/carried_search.h"
#include "search/encoder_kernels.h"
#include "search/frozen_rates.h"

namespace netpress::test {

// Where an input comes from: a random generator, or the bytes of a fuzzer.
class Draws {
 public:
  virtual ~Draws() = default;
  virtual uint32_t parameter() = 0;       // any value
  virtual uint8_t byte() = 0;             // of the data
  virtual size_t bytes(size_t most) = 0;  // how many bytes of data there are to draw

  int64_t below(int64_t n) { return static_cast<int64_t>(parameter() % static_cast<uint64_t>(n)); }
  int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }
  bool coin(int64_t in = 2) { return below(in) == 0; }
};

// All that a run leaves, bit for bit.
class Bits {
 public:
  template <typename Value>
  void add(const Value* values, size_t count) {
    const auto* const bytes = reinterpret_cast<const uint8_t*>(values);
    bits_.insert(bits_.end(), bytes, bytes + count * sizeof(Value));
  }
  template <typename Value>
  void add(const std::vector<Value>& values) {
    add(values.data(), values.size());
  }
  void add(const Context& c) {  // by member, because of its padding
    const int32_t members[] = {c.slow, c.fast, c.set};
    add(members, 3);
  }
  bool operator==(const Bits&) const = default;

 private:
  std::vector<uint8_t> bits_;
};

// One input of a pair, which can be run as often as wanted.
struct Run {
  std::function<Bits(bool scalar)> run;
  std::function<Bits()> definition;  // empty where there is none
  size_t values = 0;
};

struct Pair {
  const char* name;
  const char* fast;  // what the other version is made of
  bool exists;       // on this machine
  // Draws an input of up to `most` values.
  Run (*prepare)(Draws& draws, size_t most);
};

// The best version, or the scalar one.
template <typename Kernels>
Kernels kernels(const Kernels& best, bool scalar) {
  return scalar ? Kernels{} : best;
}

struct Weights {
  double reciprocal;
  std::vector<float> values;
};

// Weights whose levels fit 32 bits, as the quantisers check before they call.
inline Weights draw_weights(Draws& draws, size_t most) {
  // A step as a qp gives it: a mantissa of up to 8 bits and an exponent.
  const double mantissa = static_cast<double>(draws.between(128, 255));
  const double reciprocal = 1.0 / std::ldexp(mantissa, static_cast<int>(draws.between(-48, 15)));
  const int64_t form = draws.below(4);
  Weights weights{reciprocal, {}};
  const size_t count = draws.bytes(form == 0 ? 4 * most : most) / (form == 0 ? 4 : 1);
  weights.values.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    float w;
    if (form == 0) {  // any bits
      uint32_t word = 0;
      for (int k = 0; k < 4; ++k) word = word << 8 | draws.byte();
      std::memcpy(&w, &word, sizeof(w));
    } else {  // small ones; on and between the levels; beyond the unary part
      const double unit = form == 1 ? 16.0 : form == 2 ? 2.0 : 0.05;
      w = static_cast<float>(static_cast<int8_t>(draws.byte()) / (unit * reciprocal));
    }
    const auto fits = [&] { return std::fabs(static_cast<double>(w) * reciprocal) <= 2147483645.0; };
    if (!fits()) w = static_cast<float>(i % 7) - 3.0f;
    if (!fits()) w = 0;
    weights.values.push_back(w);
  }
  return weights;
}

template <typename Cost>
std::vector<Cost> start_costs(Cost unreachable) {
  std::vector<Cost> cost(8, unreachable);
  cost[0] = 0;
  return cost;
}

inline Run prepare_distortion(Draws& draws, size_t most) {
  const auto weights = std::make_shared<Weights>(draw_weights(draws, most));
  const auto run = [weights](bool scalar) {
    std::vector<double> cost = start_costs(0.5 * DBL_MAX);
    std::vector<uint16_t> decisions(weights->values.size());
    kernels(kEncoderKernels, scalar)
        .distortion_forward(weights->values.data(), static_cast<int64_t>(decisions.size()), weights->reciprocal,
                            cost.data(), decisions.data());
    Bits bits;
    bits.add(cost);
    bits.add(decisions);
    return bits;
  };
  return {run, {}, weights->values.size()};
}

inline Run prepare_nncodec_rate(Draws& draws, size_t most) {
  const bool is_short = draws.coin(3);
  const auto unary_length =
      static_cast<int>(is_short ? draws.between(0, 3) : draws.coin(8) ? draws.between(0, 255) : 10);
  // So small a lambda that no cost is finite, too.
  const double lambda = draws.coin(10) ? 1e-307 : draws.coin() ? 0.3 : 30;
  const auto weights = std::make_shared<Weights>(draw_weights(draws, most));
  const auto with = [weights, lambda, unary_length](auto function) {
    std::vector<double> cost = start_costs(0.5 * DBL_MAX);
    std::vector<uint16_t> decisions(weights->values.size());
    const RateSearch search{weights->reciprocal, 32768.0 / lambda, unary_length};
    function(weights->values.data(), static_cast<int64_t>(decisions.size()), search, cost.data(), decisions.data());
    Bits bits;
    bits.add(cost);
    bits.add(decisions);
    return bits;
  };
  return {[with](bool scalar) { return with(kernels(kEncoderKernels, scalar).nncodec_rate_forward); },
          [with] { return with(nncodec_rate_forward_definition); }, weights->values.size()};
}

// Coarse rates, so that costs tie.
inline FrozenRates draw_rates(Draws& draws) {
  const float unit = std::ldexp(1.0f, static_cast<int>(draws.below(48)) - 32);
  uint32_t random = draws.parameter() | 1;
  const auto rate = [&] {
    random ^= random << 13;
    random ^= random >> 17;
    random ^= random << 5;
    return static_cast<float>(random >> 24) * unit;
  };
  FrozenRates rates;
  for (auto& row : rates.zero) {
    for (float& r : row) r = rate();
  }
  for (auto& sign : rates.nonzero) {
    for (auto& row : sign) {
      for (float& r : row) r = rate();
    }
  }
  for (auto& sign : rates.magnitude) {
    for (float& r : sign) r = rate();
  }
  return rates;
}

inline Run prepare_frozen_rate(Draws& draws, size_t most) {
  const auto rates = std::make_shared<FrozenRates>(draw_rates(draws));
  const auto weights = std::make_shared<Weights>(draw_weights(draws, most));
  const auto run = [weights, rates](bool scalar) {
    std::vector<float> cost = start_costs(1e30f);
    std::vector<FrozenRateDecision> decisions(weights->values.size());
    kernels(kEncoderKernels, scalar)
        .frozen_rate_forward(weights->values.data(), static_cast<int64_t>(decisions.size()), weights->reciprocal,
                             *rates, cost.data(), decisions.data());
    Bits bits;
    bits.add(cost);
    bits.add(decisions);
    return bits;
  };
  return {run, {}, weights->values.size()};
}

// A whole quantisation with error feedback, of which the step is the inner part.
inline Run prepare_feedback(Draws& draws, size_t most) {
  struct Case {
    FeedbackForm form;
    FeedbackSettings settings;
    FrozenRates rates;
    std::vector<float> weights, targets, influence, importance, rows, row_influence, mean, carry;
  };
  const auto c = std::make_shared<Case>();
  FeedbackForm& form = c->form;
  const auto largest = static_cast<int64_t>(most);
  form.groups = draws.coin(3) ? draws.between(1, 4) : 1;
  form.rows = form.groups * draws.between(1, 6);
  const int64_t columns = draws.coin() ? draws.between(1, 12) : draws.between(60, 200);
  form.columns = std::min(columns, std::max<int64_t>(1, largest / form.rows));
  form.block = draws.coin(3) ? draws.between(1, form.columns) : form.columns;
  const bool is_carried = draws.coin();
  if (is_carried) form.block = draws.between(1, std::min<int64_t>(form.columns, draws.coin() ? 12 : kCarriedBlock));
  const auto numbers = [&](int64_t count, float scale, bool negative) {
    std::vector<float> result(static_cast<size_t>(count));
    for (float& r : result) r = static_cast<float>(negative ? static_cast<int8_t>(draws.byte()) : draws.byte()) * scale;
    return result;
  };
  // So small that errors do not grow without bound, whatever the bytes.
  const auto influences = [&](int64_t count, int64_t block) {
    return numbers(count * block, 1.0f / static_cast<float>(64 * block), true);
  };
  c->weights = numbers(form.rows * form.columns, 0.024f, true);
  c->influence = influences(form.groups * form.columns, form.block);
  c->importance = numbers(form.groups * form.columns, 0.004f, false);
  form.influence = c->influence.data();
  form.importance = c->importance.data();
  if (draws.coin()) {
    c->rows = numbers(form.rows, 0.008f, false);
    form.row_importance = c->rows.data();
  }
  if (is_carried) {
    c->mean = numbers(form.groups * form.columns, 1.0f / 64, true);
    c->carry = numbers(form.groups * form.columns, 1.0f / static_cast<float>(64 * form.columns), true);
    form.mean = c->mean.data();
    form.carry = c->carry.data();
  } else if (draws.coin(4)) {
    c->targets = numbers(form.rows * form.columns, 0.024f, true);
    form.targets = c->targets.data();
  }
  if (form.groups == 1 && !is_carried && draws.coin()) {
    form.row_block = draws.between(1, form.rows);
    c->row_influence = influences(form.rows, form.row_block);
    form.row_influence = c->row_influence.data();
  }
  c->settings.dependent = true;
  c->settings.reciprocal = draws.coin() ? 1.7f : draws.coin() ? 0.11f : 900.0f;
  c->settings.start_state = static_cast<int>(draws.below(8));
  if (draws.coin()) {
    c->rates = draw_rates(draws);
    c->settings.rates = &c->rates;
  }
  const auto run = [c](bool scalar) {
    FeedbackSettings settings = c->settings;
    settings.scalar = scalar;
    std::vector<int32_t> levels(c->weights.size());
    const int state = quantize_feedback(c->weights.data(), levels.data(), c->form, settings);
    Bits bits;
    bits.add(levels);
    bits.add(&state, 1);
    return bits;
  };
  return {run, {}, c->weights.size()};
}

// Several strings, in several calls: states travel from one to the next.
inline Run prepare_estimators(Draws& draws, size_t most) {
  const auto strings = static_cast<size_t>(draws.between(1, 12));
  const int64_t calls = draws.coin(64) ? 12 : draws.between(1, 3);
  const int64_t bias = draws.coin(3) ? draws.between(1, 255) : 0;  // of bytes that become eight equal bins
  const auto bins = std::make_shared<std::vector<std::vector<uint8_t>>>(strings);
  const size_t bytes = draws.bytes(most / 8);
  for (size_t i = 0; i < bytes; ++i) {
    const uint8_t byte = draws.byte();
    for (int k = 0; k < 8; ++k) {
      (*bins)[byte < 4 ? 0 : i % strings].push_back(bias > 0 ? byte < bias : static_cast<uint8_t>(byte >> k & 1));
    }
  }
  const auto run = [bins, calls](bool scalar) {
    std::vector<EstimatorBank> banks(bins->size());
    for (int64_t call = 0; call < calls; ++call) {
      std::vector<BinString> given;
      for (size_t i = 0; i < bins->size(); ++i) {
        const size_t skip = std::min(static_cast<size_t>(call) * i, (*bins)[i].size());
        given.push_back({&banks[i], (*bins)[i].data() + skip, (*bins)[i].size() - skip});
      }
      kernels(kEncoderKernels, scalar).run_estimators(given.data(), given.size());
      if (call % 4 == 3) banks[0].restart();
    }
    Bits bits;
    for (const EstimatorBank& bank : banks) {
      for (const Context& c : bank.state) bits.add(c);
      bits.add(bank.cost.data(), bank.cost.size());
    }
    return bits;
  };
  return {run, {}, 8 * bytes * static_cast<size_t>(calls)};
}

// Integers as a coder sees them; dependent ones are levels on the path of the machine.
struct Levels {
  bool dependent;
  ContextLayout layout{1};
  std::vector<int32_t> values;
};

inline Levels draw_levels(Draws& draws, size_t most) {
  const bool dependent = draws.coin();
  const int unary_length = static_cast<int>(draws.coin(8) ? draws.between(1, 256) : draws.between(1, 20));
  Levels levels{dependent, ContextLayout(unary_length), {}};
  const bool sparse = draws.coin();
  const size_t count = draws.bytes(most);
  unsigned state = 0;
  for (size_t i = 0; i < count; ++i) {
    const auto byte = static_cast<int8_t>(draws.byte());
    int32_t coded = sparse ? byte / 24 : byte / 8;
    if (byte == -128) coded = static_cast<int32_t>(draws.byte()) << 22;
    levels.values.push_back(dependent ? static_cast<int32_t>(level_from_coded(coded, state)) : coded);
    if (dependent) state = kNextState[state][coded & 1];
  }
  return levels;
}

inline std::vector<uint8_t> encode(const Levels& levels, bool scalar, std::vector<Context>* left = nullptr) {
  std::vector<Context> contexts = fresh_contexts(levels.layout.unary);
  ArithmeticEncoder coder;
  Neighbourhood n;
  kernels(kEncoderKernels, scalar)
      .encode_run(coder, contexts.data(), levels.layout, levels.dependent, levels.values.data(),
                  static_cast<int64_t>(levels.values.size()), n);
  if (left != nullptr) *left = contexts;
  return coder.finish();
}

inline Run prepare_encode_run(Draws& draws, size_t most) {
  const auto levels = std::make_shared<Levels>(draw_levels(draws, most));
  const auto run = [levels](bool scalar) {
    std::vector<Context> contexts;
    Bits bits;
    bits.add(encode(*levels, scalar, &contexts));
    for (const Context& c : contexts) bits.add(c);
    return bits;
  };
  return {run, {}, levels->values.size()};
}

// A payload that may have been damaged, for the decoders.
struct Coded {
  Levels levels;
  std::vector<uint8_t> payload;
};

inline Coded draw_coded(Draws& draws, size_t most) {
  const bool damaged = draws.coin(4);
  const bool cut = draws.coin(4);
  const size_t place = draws.parameter();
  Coded coded{draw_levels(draws, most), {}};
  coded.payload = encode(coded.levels, true);
  if (!damaged) return coded;
  if (cut) coded.payload.resize(place % coded.payload.size());
  if (!coded.payload.empty()) coded.payload[place / 8 % coded.payload.size()] ^= static_cast<uint8_t>(1 << place % 8);
  return coded;
}

inline void add_state(Bits& bits, const ArithmeticDecoder& coder, const std::vector<Context>& contexts) {
  const uint64_t state[] = {coder.doublings(), coder.window(), static_cast<uint64_t>(coder.status())};
  bits.add(state, 3);
  for (const Context& c : contexts) bits.add(c);
}

inline Run prepare_decode_run(Draws& draws, size_t most) {
  const auto coded = std::make_shared<Coded>(draw_coded(draws, most));
  const auto run = [coded](bool scalar) {
    std::vector<Context> contexts = fresh_contexts(coded->levels.layout.unary);
    ArithmeticDecoder coder(coded->payload.data(), coded->payload.size());
    Neighbourhood n;
    std::vector<int32_t> decoded(coded->levels.values.size());
    kernels(kDecoderKernels, scalar)
        .decode_run(coder, contexts.data(), coded->levels.layout, coded->levels.dependent, decoded.data(),
                    static_cast<int64_t>(decoded.size()), n);
    Bits bits;
    bits.add(decoded);
    add_state(bits, coder, contexts);
    return bits;
  };
  return {run, {}, coded->levels.values.size()};
}

// One to four lanes, up to where the first of them leaves the loop.
inline Run prepare_lanes(Draws& draws, size_t most) {
  const auto count = static_cast<size_t>(draws.between(1, kMostLanes));
  const auto coded = std::make_shared<std::vector<Coded>>();
  size_t values = 0;
  for (size_t i = 0; i < count; ++i) {
    coded->push_back(draw_coded(draws, most / count));
    values += coded->back().levels.values.size();
  }
  const auto run = [coded](bool scalar) {
    struct Decoding {
      explicit Decoding(const Coded& from)
          : coder(from.payload.data(), from.payload.size()),
            contexts(fresh_contexts(from.levels.layout.unary)),
            machine(from.levels.dependent, from.levels.layout.unary),
            decoded(from.levels.values.size()) {
        lane.start(coder, contexts.data(), machine, decoded.data(), static_cast<int64_t>(decoded.size()));
      }
      ArithmeticDecoder coder;
      std::vector<Context> contexts;
      BinMachine machine;
      std::vector<int32_t> decoded;
      Lane lane;
    };
    std::vector<std::unique_ptr<Decoding>> all;
    std::vector<Lane*> lanes;
    for (const Coded& c : *coded) lanes.push_back(&all.emplace_back(std::make_unique<Decoding>(c))->lane);
    for (;;) {
      int64_t rounds = std::numeric_limits<int64_t>::max();
      for (const Lane* lane : lanes) rounds = std::min(rounds, lane->rounds());
      if (rounds == 0) break;
      kernels(kDecoderKernels, scalar).run_lanes(lanes.data(), static_cast<int>(lanes.size()), rounds);
      bool failed = false;
      for (const auto& d : all) {
        if (d->lane.has_escaped) d->lane.escape();
        failed |= d->coder.failed();
      }
      if (failed) break;
    }
    Bits bits;
    for (const auto& d : all) {
      d->coder.set_registers(d->lane.state);
      // The loop writes the next value before it is complete.
      bits.add(d->decoded.data(), static_cast<size_t>(d->lane.decoded()));
      add_state(bits, d->coder, d->contexts);
    }
    return bits;
  };
  return {run, {}, values};
}

inline const std::vector<Pair>& pairs() {
  static const std::vector<Pair> all = {
      {"estimators", "avx2", has_avx2(), prepare_estimators},
      {"distortion search", "avx2", has_avx2(), prepare_distortion},
      {"nncodec rate search", "avx2", has_avx2(), prepare_nncodec_rate},
      {"frozen rate search", "avx2", has_avx2(), prepare_frozen_rate},
      {"feedback search", "avx2", has_avx2(), prepare_feedback},
      {"run encoder", "bmi2", has_bmi2(), prepare_encode_run},
      {"run decoder", "bmi2", has_bmi2(), prepare_decode_run},
      {"interleaved runs", "bmi2", has_bmi2(), prepare_lanes},
  };
  return all;
}

}  // namespace netpress::test
