#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>

#include "base/processor.h"
#include "search/carried_search.h"
#include "search/survivor_choice.h"

namespace netpress {

NETPRESS_AVX2 void carried_forward_avx2(CarriedSurvivors& survivors, const CarriedRun& run, const FrozenRates* rates,
                                        CarriedDecision* decisions) {
  __m256 cost = _mm256_load_ps(survivors.cost);
  __m256i neighbour = _mm256_load_si256(reinterpret_cast<const __m256i*>(survivors.neighbour));
  __m256 carried = _mm256_load_ps(survivors.carried);
  __m256 sum = _mm256_load_ps(survivors.sum);
  int64_t place = run.first % run.block;
  for (int64_t j = run.first; j < run.end; ++j) {
    const float* influence = run.influence + (j - place) * run.block + place;
    const __m256 weight = _mm256_set1_ps(run.weights[j] * run.reciprocal);
    const __m256 base = _mm256_add_ps(weight, _mm256_mul_ps(_mm256_broadcast_ss(run.carry + j), carried));
    __m256 target = base;
    for (int64_t k = 0; k < place; ++k) {
      target = _mm256_add_ps(target, _mm256_mul_ps(_mm256_broadcast_ss(influence + k * run.block),
                                                   _mm256_load_ps(survivors.errors[k])));
    }
    const __m256 importance = _mm256_set1_ps(run.importance[j] * run.row_importance);
    const SurvivorLanes choice = choose_survivor_lanes(target, importance, rates, cost, neighbour);
    CarriedDecision& decision = decisions[j - run.first];
    _mm256_store_ps(decision.level, choice.level);
    _mm256_store_si256(reinterpret_cast<__m256i*>(decision.source), choice.source);
    carried = _mm256_permutevar8x32_ps(carried, choice.source);
    sum = _mm256_add_ps(_mm256_permutevar8x32_ps(sum, choice.source),
                        _mm256_mul_ps(_mm256_broadcast_ss(run.mean + j), _mm256_sub_ps(weight, choice.level)));
    if (place + 1 == run.block) {
      carried = sum;
      place = 0;
      continue;
    }
    for (int64_t k = 0; k < place; ++k) {
      _mm256_store_ps(survivors.errors[k],
                      _mm256_permutevar8x32_ps(_mm256_load_ps(survivors.errors[k]), choice.source));
    }
    _mm256_store_ps(survivors.errors[place],
                    _mm256_sub_ps(_mm256_permutevar8x32_ps(base, choice.source), choice.level));
    ++place;
  }
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, cost);
  _mm256_store_ps(survivors.cost, _mm256_sub_ps(cost, _mm256_set1_ps(*std::min_element(lanes, lanes + 8))));
  _mm256_store_si256(reinterpret_cast<__m256i*>(survivors.neighbour), neighbour);
  _mm256_store_ps(survivors.carried, carried);
  _mm256_store_ps(survivors.sum, sum);
}

}  // namespace netpress

#endif
