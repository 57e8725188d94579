#include <algorithm>

#include "search/feedback_search.h"
#include "search/survivor_choice.h"

namespace netpress {

void feedback_step_scalar(FeedbackSurvivors& survivors, int index, const FeedbackPosition& at,
                          const FrozenRates* rates) {
  float target[8];
  for (int s = 0; s < 8; ++s) {
    target[s] = at.base;
    const float* influence = at.influence;
    for (int k = index - at.reach; k < index; ++k) target[s] += *influence++ * survivors.errors[k][s];
  }
  const SurvivorChoice choice = choose_survivors(target, at.importance, rates, survivors.cost, survivors.neighbour);
  for (int t = 0; t < 8; ++t) {
    survivors.sources[index][t] = choice.source[t];
    survivors.errors[index][t] = at.weight - choice.level[t];
  }
  float carried[8];
  for (int k = 0; k < index; ++k) {
    for (int t = 0; t < 8; ++t) carried[t] = survivors.errors[k][choice.source[t]];
    std::copy(carried, carried + 8, survivors.errors[k]);
  }
}

}  // namespace netpress
