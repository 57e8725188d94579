#include <array>
#include <cfloat>
#include <cmath>
#include <vector>

#include "quantize.h"
#include "quantize_fallback.h"
#include "rate_model.h"
#include "scan_ordered.h"
#include "trellis.h"
#include "trellis_search.h"

namespace netpress {

namespace {

// Branches into each state, in order of examination: where from, and which class of candidate. Classes 0..3 are level
// magnitudes modulo 4, class 4 is zero.
struct Branch {
  uint8_t source;
  uint8_t kind;
};
constexpr Branch kBranches[8][3] = {
    {{0, 0}, {0, 4}, {4, 2}}, {{2, 0}, {2, 4}, {6, 2}}, {{0, 2}, {4, 0}, {4, 4}}, {{2, 2}, {6, 0}, {6, 4}},
    {{3, 1}, {7, 3}, {7, 4}}, {{1, 1}, {5, 3}, {5, 4}}, {{3, 3}, {3, 4}, {7, 1}}, {{1, 3}, {1, 4}, {5, 1}}};

// Smallest candidate magnitude for a scaled weight.
inline int64_t first_candidate(double magnitude) {
  return std::max<int64_t>(1, static_cast<int64_t>(magnitude) - 1);
}

// Magnitude of the candidate of class `kind` (0..3) among first .. first + 3.
inline int64_t candidate(int64_t first, int kind) { return first + ((kind - first) & 3); }

struct Scale {
  explicit Scale(const QuantizerSettings& settings, int64_t qp) {
    const double step = static_cast<float>(step_size(qp, settings.qp_density));
    reciprocal = 1.0 / step;
    reciprocal_single = static_cast<float>(reciprocal);
  }
  bool fits(float weight) const {
    const double rounded = std::round(static_cast<double>(weight * reciprocal_single));
    return rounded <= 2147483645.0 && rounded >= -2147483646.0;
  }
  double magnitude(float weight) const { return (reciprocal * weight) * (weight < 0 ? -1 : 1); }

  double reciprocal;
  float reciprocal_single;
};

unsigned cheapest_state(const double* cost) {
  unsigned best = 0;
  for (unsigned t = 1; t < 8; ++t) {
    if (cost[t] < cost[best]) best = t;
  }
  return best;
}

// Without a rate term: costs in registers, two bits of decision per state and weight.
bool search_distortion(const float* weights, int32_t* levels, int64_t count, const Scale& scale) {
  for (int64_t i = 0; i < count; ++i) {
    if (!scale.fits(weights[i])) return false;
  }
  std::vector<uint16_t> decisions(static_cast<size_t>(count));
  double cost[8];
  cost[0] = 0;
  std::fill(cost + 1, cost + 8, 0.5 * DBL_MAX);
  trellis_forward(weights, count, scale.reciprocal, cost, decisions.data());
  unsigned state = cheapest_state(cost);
  for (int64_t i = count - 1; i >= 0; --i) {
    const unsigned taken = decisions[static_cast<size_t>(i)] >> state;
    const Branch branch = kBranches[state][(taken >> 8 & 1) ? 2 : (taken & 1)];
    int64_t level = 0;
    if (branch.kind < 4) {
      level = candidate(first_candidate(scale.magnitude(weights[i])), branch.kind);
      if (weights[i] < 0) level = -level;
    }
    levels[i] = static_cast<int32_t>(level);
    state = branch.source;
  }
  return true;
}

// With the rate of NNCodec's models: two banks of eight, each with its own contexts and neighbour. A model is advanced
// with the state that was reached and the neighbour of two weights ago; byte identity needs exactly that.
bool search_rate_distortion(const float* weights, int32_t* levels, int64_t count, const Scale& scale,
                            const QuantizerSettings& settings) {
  const double lambda = ((static_cast<double>(settings.lambda_scale) * 4) * (std::log(2.0) / 6.0)) * 0.7;
  const double distortion_scale = 32768.0 / lambda;
  struct Decision {
    int32_t coded;
    uint8_t source;
  };
  std::vector<std::array<Decision, 8>> decisions(static_cast<size_t>(count));
  std::vector<RateModel> previous(8, RateModel(settings.rate_unary_length));
  std::vector<RateModel> current = previous;
  double cost[8];
  cost[0] = 0;
  std::fill(cost + 1, cost + 8, 0.5 * DBL_MAX);
  for (int64_t i = 0; i < count; ++i) {
    if (!scale.fits(weights[i])) return false;
    const double original = scale.magnitude(weights[i]);
    const int64_t first = first_candidate(original);
    double next[8];
    for (unsigned t = 0; t < 8; ++t) {
      double best = DBL_MAX;
      Decision& decision = decisions[static_cast<size_t>(i)][t];
      for (const Branch& branch : kBranches[t]) {
        int32_t coded = 0;
        double error = original;
        if (branch.kind < 4) {
          const int64_t level = candidate(first, branch.kind);
          coded = static_cast<int32_t>((level + 1) >> 1);
          if (weights[i] < 0) coded = -coded;
          error = original - static_cast<double>(level);
        }
        const double distortion = distortion_scale * (error * error);
        const double c = (cost[branch.source] + distortion) +
                         static_cast<double>(previous[branch.source].cost(coded, branch.source));
        if (c < best) {
          best = c;
          decision = {coded, branch.source};
        }
      }
      next[t] = best;
      current[t].copy_contexts(previous[decision.source]);
      current[t].advance(decision.coded, t);
    }
    std::copy(next, next + 8, cost);
    std::swap(previous, current);
  }
  unsigned state = cheapest_state(cost);
  for (int64_t i = count - 1; i >= 0; --i) {
    const Decision& decision = decisions[static_cast<size_t>(i)][state];
    levels[i] = static_cast<int32_t>(level_from_coded(decision.coded, decision.source));
    state = decision.source;
  }
  return true;
}

}  // namespace

int64_t quantize_trellis(const float* weights, int32_t* levels, const QuantizerSettings& settings, int64_t qp) {
  const ScanOrdered ordered(weights, settings.geometry);
  const int64_t count = settings.geometry.size();
  const int64_t used = quantize_with_fallback(weights, settings, qp, [&](int64_t attempt) {
    const Scale scale(settings, attempt);
    return settings.lambda_scale > 0 ? search_rate_distortion(ordered.data(), levels, count, scale, settings)
                                     : search_distortion(ordered.data(), levels, count, scale);
  });
  ordered.restore(levels);
  return used;
}

}  // namespace netpress
