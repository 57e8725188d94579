// The search as it is defined, against which tests compare the other two.
#include <algorithm>
#include <cfloat>
#include <vector>

#include "search/nncodec_rate_search.h"
#include "search/rate_model.h"

namespace netpress {

// Two banks of eight models, each with its own contexts and neighbour. A model is advanced with the state that was
// reached and the neighbour of two weights ago; byte identity needs exactly that.
void nncodec_rate_forward_definition(const float* weights, int64_t count, const RateSearch& search, double* cost,
                                     uint16_t* decisions) {
  std::vector<RateModel> previous(8, RateModel(search.unary_length));
  std::vector<RateModel> current = previous;
  for (int64_t i = 0; i < count; ++i) {
    const RateCandidates c = rate_candidates(weights[i], search);
    double next[8];
    unsigned decision = 0;
    for (unsigned t = 0; t < 8; ++t) {
      double best = DBL_MAX;
      unsigned taken = kNoBranch;
      for (unsigned b = 0; b < 3; ++b) {
        const auto [source, kind] = kBranches[t][b];
        const double total = (cost[source] + c.distortion[kind]) +
                             static_cast<double>(previous[source].cost(c.coded[kind], source));
        if (total < best) {
          best = total;
          taken = b;
        }
      }
      next[t] = best;
      decision |= ((taken & 1) | (taken >> 1) << 8) << t;
      const Branch branch = taken == kNoBranch ? Branch{0, kZeroKind} : kBranches[t][taken];
      current[t].copy_contexts(previous[branch.source]);
      current[t].advance(c.coded[branch.kind], t);
    }
    decisions[i] = static_cast<uint16_t>(decision);
    std::copy(next, next + 8, cost);
    std::swap(previous, current);
  }
}

}  // namespace netpress
