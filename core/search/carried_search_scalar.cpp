#include <algorithm>

#include "search/carried_search.h"
#include "search/survivor_choice.h"

namespace netpress {

void carried_forward_scalar(CarriedSurvivors& survivors, const CarriedRun& run, const FrozenRates* rates,
                            CarriedDecision* decisions) {
  for (int64_t j = run.first; j < run.end; ++j) {
    const int64_t place = j % run.block;
    const float* influence = run.influence + (j - place) * run.block + place;
    const float weight = run.weights[j] * run.reciprocal;
    float base[8];
    float target[8];
    for (int s = 0; s < 8; ++s) {
      base[s] = weight + run.carry[j] * survivors.carried[s];
      target[s] = base[s];
      for (int64_t k = 0; k < place; ++k) target[s] += influence[k * run.block] * survivors.errors[k][s];
    }
    const SurvivorChoice choice = choose_survivors(target, run.importance[j] * run.row_importance, rates,
                                                   survivors.cost, survivors.neighbour);
    const CarriedSurvivors before = survivors;
    for (int t = 0; t < 8; ++t) {
      const int source = choice.source[t];
      const float level = choice.level[t];
      decisions[j - run.first].level[t] = level;
      decisions[j - run.first].source[t] = source;
      survivors.carried[t] = before.carried[source];
      survivors.sum[t] = before.sum[source] + run.mean[j] * (weight - level);
      for (int64_t k = 0; k < place; ++k) survivors.errors[k][t] = before.errors[k][source];
      survivors.errors[place][t] = base[source] - level;
    }
    if (place + 1 == run.block) std::copy(survivors.sum, survivors.sum + 8, survivors.carried);
  }
  const float least = *std::min_element(survivors.cost, survivors.cost + 8);
  for (float& cost : survivors.cost) cost -= least;
}

}  // namespace netpress
