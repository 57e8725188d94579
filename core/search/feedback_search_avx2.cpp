#if defined(__x86_64__)
#include <immintrin.h>

#include "base/processor.h"
#include "search/feedback_search.h"
#include "search/survivor_choice.h"

namespace netpress {

NETPRESS_AVX2 void feedback_step_avx2(FeedbackSurvivors& survivors, int index, const FeedbackPosition& at,
                                      const FrozenRates* rates) {
  __m256 target = _mm256_set1_ps(at.base);
  const float* influence = at.influence;
  for (int k = index - at.reach; k < index; ++k) {
    target = _mm256_add_ps(target,
                           _mm256_mul_ps(_mm256_broadcast_ss(influence++), _mm256_load_ps(survivors.errors[k])));
  }
  __m256 cost = _mm256_load_ps(survivors.cost);
  __m256i neighbour = _mm256_load_si256(reinterpret_cast<const __m256i*>(survivors.neighbour));
  const SurvivorLanes choice = choose_survivor_lanes(target, _mm256_set1_ps(at.importance), rates, cost, neighbour);
  _mm256_store_ps(survivors.cost, cost);
  _mm256_store_si256(reinterpret_cast<__m256i*>(survivors.neighbour), neighbour);
  _mm256_store_si256(reinterpret_cast<__m256i*>(survivors.sources[index]), choice.source);
  _mm256_store_ps(survivors.errors[index], _mm256_sub_ps(_mm256_set1_ps(at.weight), choice.level));
  for (int k = 0; k < index; ++k) {
    _mm256_store_ps(survivors.errors[k],
                    _mm256_permutevar8x32_ps(_mm256_load_ps(survivors.errors[k]), choice.source));
  }
}

}  // namespace netpress

#endif
