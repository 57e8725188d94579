#include "search/estimators.h"

namespace netpress {

namespace {

// Sets kFirst .. kFirst + 2 side by side, which hides the latency of their updates.
template <unsigned kFirst>
void run_three(EstimatorBank& bank, const uint8_t* bins, size_t count) {
  Context a = bank.state[kFirst], b = bank.state[kFirst + 1], c = bank.state[kFirst + 2];
  uint64_t cost_a = 0, cost_b = 0, cost_c = 0;
  for (size_t i = 0; i < count; ++i) {
    cost_a += a.cost(bins[i]);
    cost_b += b.cost(bins[i]);
    cost_c += c.cost(bins[i]);
    a.update(bins[i]);
    b.update(bins[i]);
    c.update(bins[i]);
  }
  bank.state[kFirst] = a;
  bank.state[kFirst + 1] = b;
  bank.state[kFirst + 2] = c;
  bank.cost[kFirst] += cost_a;
  bank.cost[kFirst + 1] += cost_b;
  bank.cost[kFirst + 2] += cost_c;
}

}  // namespace

void run_estimators_scalar(const BinString* strings, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    run_three<0>(*strings[i].bank, strings[i].bins, strings[i].count);
    run_three<3>(*strings[i].bank, strings[i].bins, strings[i].count);
    run_three<6>(*strings[i].bank, strings[i].bins, strings[i].count);
  }
}

}  // namespace netpress
