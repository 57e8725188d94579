#include "quantize/feedback.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/failure.h"
#include "coder/trellis.h"
#include "search/carried_search.h"
#include "search/encoder_kernels.h"
#include "search/feedback_search.h"

namespace netpress {

namespace {

// values[i] += influence[i] * error for `count` elements.
void spread_error(float* values, const float* influence, float error, int64_t count) {
  for (int64_t i = 0; i < count; ++i) values[i] += influence[i] * error;
}

// Weights of one row in steps, with the influence of the rows before; and with that of the errors that are final, too.
class Row {
 public:
  Row(const FeedbackForm& form, float reciprocal) : form_(form), reciprocal_(reciprocal) {
    weights_.resize(static_cast<size_t>(form.columns));
    base_.resize(weights_.size());
    if (form.row_influence != nullptr) errors_.resize(static_cast<size_t>(form.row_block * form.columns));
  }

  void start(const float* weights, int64_t row) {
    const float* targets = form_.targets == nullptr ? weights : form_.targets + row * form_.columns;
    for (size_t j = 0; j < weights_.size(); ++j) {
      weights_[j] = weights[j] * reciprocal_;
      base_[j] = targets[j] * reciprocal_;
    }
    importance_ = form_.row_importance == nullptr ? 1.0f : form_.row_importance[row];
    group_ = row / (form_.rows / form_.groups);
    if (form_.row_influence == nullptr) return;
    const int64_t first = row / form_.row_block * form_.row_block;
    for (int64_t k = first; k < row; ++k) {
      const float influence = form_.row_influence[k * form_.row_block + (row - first)];
      const float* errors = errors_.data() + (k - first) * form_.columns;
      spread_error(weights_.data(), errors, influence, form_.columns);
      spread_error(base_.data(), errors, influence, form_.columns);
    }
  }

  // Keeps the errors of a row whose levels are all final, for the rows after it.
  void end(const float* weights, const int32_t* levels, int64_t row) {
    if (form_.row_influence == nullptr) return;
    float* errors = errors_.data() + row % form_.row_block * form_.columns;
    for (int64_t j = 0; j < form_.columns; ++j) {
      errors[j] = weights[j] * reciprocal_ - static_cast<float>(levels[j]);
    }
  }

  // The error of column k spreads over the columns from `first` on.
  void spread(int64_t k, int64_t first, float error) {
    const int64_t block = k / form_.block * form_.block;
    const int64_t end = std::min(block + form_.block, form_.columns);
    if (first >= end) return;
    const float* influence = form_.influence + (group_ * form_.columns + k) * form_.block;
    spread_error(base_.data() + first, influence + (first - block), error, end - first);
  }

  float weight(int64_t j) const { return weights_[static_cast<size_t>(j)]; }
  float base(int64_t j) const { return base_[static_cast<size_t>(j)]; }
  float importance(int64_t j) const { return form_.importance[group_ * form_.columns + j] * importance_; }
  int64_t group() const { return group_; }

 private:
  const FeedbackForm& form_;
  float reciprocal_;
  float importance_ = 1;
  int64_t group_ = 0;
  std::vector<float> weights_;
  std::vector<float> base_;
  std::vector<float> errors_;  // of the rows of a block of rows
};

struct UniformRates {
  const FrozenRates* rates;
  int neighbour = 0;
  float zero() const { return rates == nullptr ? 0.0f : rates->zero[neighbour][0]; }
  float of(float size, int negative) const {
    if (rates == nullptr) return 0.0f;
    const int index = std::min(static_cast<int>(size), FrozenRates::kMagnitudes - 1);
    return rates->nonzero[negative][neighbour][0] + rates->magnitude[negative][index];
  }
};

// The cheapest of the nearest level, the one below it and zero.
float uniform_level(float target, float importance, UniformRates& rates) {
  const float size = std::fabs(target);
  const int negative = std::signbit(target);
  float best = std::nearbyint(size);
  if (rates.rates != nullptr && best > 0) {
    const float largest = best;
    best = 0;
    float least = (size * size) * importance + rates.zero();
    for (const float level : {largest, largest - 1}) {
      if (level == 0) continue;
      const float cost = ((size - level) * (size - level)) * importance + rates.of(level, negative);
      if (cost < least) {
        least = cost;
        best = level;
      }
    }
  }
  rates.neighbour = best == 0 ? 0 : negative ? 1 : 2;
  return negative ? -best : best;
}

void search_uniform(const float* weights, int32_t* levels, const FeedbackForm& form, const FeedbackSettings& settings) {
  Row row(form, settings.reciprocal);
  UniformRates rates{settings.rates};
  for (int64_t r = 0; r < form.rows; ++r) {
    row.start(weights + r * form.columns, r);
    const int64_t own = row.group() * form.columns;
    float carried = 0;
    float sum = 0;
    for (int64_t j = 0; j < form.columns; ++j) {
      if (j % form.block == 0) carried = sum;
      const float added = form.carry == nullptr ? 0.0f : form.carry[own + j] * carried;
      const float level = uniform_level(row.base(j) + added, row.importance(j), rates);
      const float error = row.weight(j) - level;
      levels[r * form.columns + j] = static_cast<int32_t>(level);
      row.spread(j, j + 1, error + added);
      if (form.mean != nullptr) sum += form.mean[own + j] * error;
    }
    row.end(weights + r * form.columns, levels + r * form.columns, r);
  }
}

// The cheapest survivor that can still be in the end state after `left` weights; from 3 weights on all can.
bool can_end(int state, int end_state, int64_t left) {
  if (end_state < 0 || left >= 3) return true;
  if (left == 0) return state == end_state;
  return can_end(kNextState[state][0], end_state, left - 1) || can_end(kNextState[state][1], end_state, left - 1);
}

int cheapest(const float* cost, int end_state, int64_t left) {
  int best = -1;
  for (int t = 0; t < 8; ++t) {
    if ((best < 0 || cost[t] < cost[best]) && can_end(t, end_state, left)) best = t;
  }
  // No survivor can reach the end state; the costs of those that can are far below.
  if (cost[best] >= 0.5f * kFeedbackUnreachable) throw Failure(Status::kBadParameter);
  return best;
}

// The search for forms with a carried sum. Decisions are kept in full and followed back when many are there, so nothing
// but that sum and the errors of one block travels with a survivor.
class CarriedSearch {
 public:
  CarriedSearch(const float* weights, int32_t* levels, const FeedbackForm& form, const FeedbackSettings& settings)
      : weights_(weights),
        levels_(levels),
        form_(form),
        settings_(settings),
        forward_(settings.scalar ? carried_forward_scalar : kEncoderKernels.carried_forward),
        decisions_(static_cast<size_t>(std::min(kKept, form.rows * form.columns))) {
    std::fill(survivors_.cost, survivors_.cost + 8, kFeedbackUnreachable);
    survivors_.cost[settings.start_state] = 0;
    std::fill(survivors_.neighbour, survivors_.neighbour + 8, 0);
  }

  int run() {
    int state = settings_.start_state;
    for (int64_t r = 0; r < form_.rows; ++r) {
      std::fill(survivors_.carried, survivors_.carried + 8, 0.0f);
      std::fill(survivors_.sum, survivors_.sum + 8, 0.0f);
      CarriedRun run = row(r);
      while (run.first < form_.columns) {
        run.end = std::min({form_.columns, run.first + kRebase, run.first + kKept - open_});
        forward_(survivors_, run, settings_.rates, decisions_.data() + open_);
        open_ += run.end - run.first;
        run.first = run.end;
        if (open_ == kKept) state = decide();
      }
    }
    return open_ == 0 ? state : decide();
  }

 private:
  static constexpr int64_t kKept = 4096;

  CarriedRun row(int64_t r) const {
    const int64_t group = r / (form_.rows / form_.groups);
    const int64_t own = group * form_.columns;
    CarriedRun run{};
    run.weights = weights_ + r * form_.columns;
    run.reciprocal = settings_.reciprocal;
    run.block = form_.block;
    run.row_importance = form_.row_importance == nullptr ? 1.0f : form_.row_importance[r];
    run.importance = form_.importance + own;
    run.mean = form_.mean + own;
    run.carry = form_.carry + own;
    run.influence = form_.influence + own * form_.block;
    return run;
  }

  // Makes all open decisions final; only the cheapest survivor goes on.
  int decide() {
    const int64_t end = decided_ + open_;
    const int last = cheapest(survivors_.cost, settings_.end_state, form_.rows * form_.columns - end);
    int state = last;
    for (int64_t k = open_ - 1; k >= 0; --k) {
      const CarriedDecision& decision = decisions_[static_cast<size_t>(k)];
      levels_[decided_ + k] = static_cast<int32_t>(decision.level[state]);
      state = decision.source[state];
    }
    for (int t = 0; t < 8; ++t) survivors_.cost[t] = t == last ? 0.0f : kFeedbackUnreachable;
    decided_ = end;
    open_ = 0;
    return last;
  }

  const float* weights_;
  int32_t* levels_;
  const FeedbackForm& form_;
  const FeedbackSettings& settings_;
  decltype(&carried_forward_scalar) forward_;
  CarriedSurvivors survivors_{};
  std::vector<CarriedDecision> decisions_;
  int64_t decided_ = 0;
  int64_t open_ = 0;
};

// All rows in one pass: the survivors go from row to row, their errors do not. Where rows influence each other, all
// decisions of a row become final at its end, because the next row needs its errors.
class TrellisSearch {
 public:
  TrellisSearch(const float* weights, int32_t* levels, const FeedbackForm& form, const FeedbackSettings& settings)
      : weights_(weights),
        levels_(levels),
        form_(form),
        settings_(settings),
        step_(settings.scalar ? feedback_step_scalar : kEncoderKernels.feedback_step),
        row_(form, settings.reciprocal) {
    std::fill(survivors_.cost, survivors_.cost + 8, kFeedbackUnreachable);
    survivors_.cost[settings.start_state] = 0;
    std::memset(survivors_.neighbour, 0, sizeof(survivors_.neighbour));
  }

  int run() {
    for (int64_t r = 0; r < form_.rows; ++r) {
      row_.start(weights_ + r * form_.columns, r);
      if (row_.group() != banded_) make_band(row_.group());
      for (int64_t j = 0; j < form_.columns; ++j) {
        advance(r, j);
        if (open_ == kFeedbackWindow) decide(r, j + 1);
      }
      if (form_.row_influence != nullptr) end_row(r);
    }
    return finish();
  }

 private:
  // Influences as the window needs them: those of the positions before each column side by side.
  void make_band(int64_t group) {
    band_.assign(static_cast<size_t>(form_.columns * kFeedbackWindow), 0.0f);
    const float* influence = form_.influence + group * form_.columns * form_.block;
    for (int64_t j = 0; j < form_.columns; ++j) {
      const int64_t block = j / form_.block * form_.block;
      for (int64_t k = std::max(block, j - kFeedbackWindow); k < j; ++k) {
        band_[static_cast<size_t>((j + 1) * kFeedbackWindow - (j - k))] = influence[k * form_.block + (j - block)];
      }
    }
    banded_ = group;
  }

  void advance(int64_t r, int64_t j) {
    FeedbackPosition at;
    at.weight = row_.weight(j);
    at.base = row_.base(j);
    at.importance = row_.importance(j);
    at.reach = static_cast<int>(std::min<int64_t>(j % form_.block, open_));
    at.influence = band_.data() + (j + 1) * kFeedbackWindow - at.reach;
    step_(survivors_, open_, at, settings_.rates);
    ++open_;
    first_open_ = r * form_.columns + j + 1 - open_;
  }

  // Makes the oldest decisions final; survivors that decided otherwise end. Row r is under way, up to `next`.
  void decide(int64_t r, int64_t next) {
    const int best = cheapest_after(form_.rows * form_.columns - first_open_ - open_);
    int ancestor[8];
    for (int t = 0; t < 8; ++t) {
      int state = t;
      for (int k = kFeedbackWindow - 1; k >= kFeedbackBatch; --k) state = survivors_.sources[k][state];
      ancestor[t] = state;
    }
    const float least = survivors_.cost[best];
    for (int t = 0; t < 8; ++t) {
      survivors_.cost[t] = ancestor[t] == ancestor[best] ? survivors_.cost[t] - least : kFeedbackUnreachable;
    }
    for (int k = 0; k < kFeedbackBatch; ++k) {
      const float error = survivors_.errors[k][best];
      settle(first_open_ + k, error);
      const int64_t column = first_open_ + k - r * form_.columns;
      if (column >= 0) row_.spread(column, next, error);
    }
    std::memmove(survivors_.errors, survivors_.errors + kFeedbackBatch, sizeof(survivors_.errors[0]) * kFeedbackDelay);
    std::memmove(survivors_.sources, survivors_.sources + kFeedbackBatch,
                 sizeof(survivors_.sources[0]) * kFeedbackDelay);
    open_ = kFeedbackDelay;
    first_open_ += kFeedbackBatch;
  }

  void end_row(int64_t r) {
    const int best = cheapest_after((form_.rows - r - 1) * form_.columns);
    settle_open(best);
    for (int t = 0; t < 8; ++t) survivors_.cost[t] = t == best ? 0.0f : kFeedbackUnreachable;
    open_ = 0;
    first_open_ = (r + 1) * form_.columns;
    row_.end(weights_ + r * form_.columns, levels_ + r * form_.columns, r);
  }

  void settle_open(int survivor) {
    for (int k = 0; k < open_; ++k) settle(first_open_ + k, survivors_.errors[k][survivor]);
  }

  void settle(int64_t position, float error) {
    const bool in_row = form_.row_influence != nullptr;  // else the row may be over
    const float weight = in_row ? row_.weight(position % form_.columns) : weights_[position] * settings_.reciprocal;
    levels_[position] = static_cast<int32_t>(std::nearbyint(weight - error));
  }

  int cheapest_after(int64_t left) const { return cheapest(survivors_.cost, settings_.end_state, left); }

  int finish() {
    const int last = cheapest_after(0);
    settle_open(last);
    return last;
  }

  const float* weights_;
  int32_t* levels_;
  const FeedbackForm& form_;
  const FeedbackSettings& settings_;
  decltype(&feedback_step_scalar) step_;
  Row row_;
  FeedbackSurvivors survivors_;
  std::vector<float> band_;
  int64_t banded_ = -1;
  int64_t first_open_ = 0;
  int open_ = 0;
};

}  // namespace

int quantize_feedback(const float* weights, int32_t* levels, const FeedbackForm& form,
                      const FeedbackSettings& settings) {
  const int64_t count = form.rows * form.columns;
  for (int64_t i = 0; i < count; ++i) {
    if (!(std::fabs(weights[i] * settings.reciprocal) <= kLargestFeedbackLevel)) {
      throw Failure(Status::kLevelOutOfRange);
    }
  }
  if (settings.dependent && form.carry != nullptr) return CarriedSearch(weights, levels, form, settings).run();
  if (settings.dependent) return TrellisSearch(weights, levels, form, settings).run();
  search_uniform(weights, levels, form, settings);
  return 0;
}

}  // namespace netpress
