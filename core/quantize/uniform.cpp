#include <cmath>

#include "quantize/dequantize.h"
#include "quantize/fallback.h"
#include "quantize/quantizers.h"
#include "search/rate_model.h"

namespace netpress {

namespace {

// Nearest integer, halves away from zero; equals std::round but vectorises.
inline float round_half_away(float x) { return std::trunc(x + std::copysign(0.49999997f, x)); }

bool nearest(const float* weights, int32_t* levels, const QuantizerSettings& settings, int64_t qp) {
  const float step = static_cast<float>(step_size(qp, settings.qp_density));
  const float inverse = static_cast<float>(1.0 / static_cast<double>(step));
  const int64_t count = settings.geometry.size();
  bool fits = true;
  for (int64_t i = 0; i < count; ++i) {
    const float rounded = round_half_away(inverse * weights[i]);
    const bool inside = rounded < 2147483648.0f && rounded >= -2147483648.0f;
    fits &= inside;
    levels[i] = inside ? static_cast<int32_t>(rounded) : 0;
  }
  return fits;
}

bool rate_distortion(const float* weights, int32_t* levels, const QuantizerSettings& settings, int64_t qp) {
  const double step = static_cast<float>(step_size(qp, settings.qp_density));
  const double inverse = 1.0 / step;
  const double lambda = static_cast<double>(settings.lambda_scale) * (std::log(2.0) / 6.0);
  const double distortion_scale = 32768.0 / lambda;
  RateModel rate(settings.nncodec_rate_length());
  bool fits = true;
  for_each_segment(settings.geometry, [&](const Segment& s) {
    for (int64_t p = s.begin; fits && p < s.end; ++p) {
      const double w = weights[p];
      const double rounded = std::round(w * inverse);
      if (rounded > 2147483647.0 || rounded < -2147483648.0) {
        fits = false;
        break;
      }
      const int sign = w < 0 ? -1 : 1;
      const double a = (sign * w) * inverse;
      const int64_t m = static_cast<int64_t>(std::round(a));
      int64_t best = 0;
      double cost = distortion_scale * (a * a) + static_cast<double>(rate.cost(0, 0));
      for (int64_t c = std::max<int64_t>(1, m - 1); c <= m; ++c) {
        // The rate is that of the positive value; a magnitude of 2^31 has none and is never chosen.
        if (c > 2147483647) continue;
        const double error = a - static_cast<double>(c);
        const uint64_t bits = rate.cost(static_cast<int32_t>(c), 0);
        const double t = distortion_scale * (error * error) + static_cast<double>(bits);
        if (t < cost) {
          best = c;
          cost = t;
        }
      }
      levels[p] = static_cast<int32_t>(sign * best);
      rate.advance(levels[p], 0);
    }
  });
  return fits;
}

}  // namespace

int64_t quantize_uniform(const float* weights, int32_t* levels, const QuantizerSettings& settings, int64_t qp) {
  return quantize_with_fallback(weights, settings, qp, [&](int64_t attempt) {
    return settings.lambda_scale > 0 ? rate_distortion(weights, levels, settings, attempt)
                                     : nearest(weights, levels, settings, attempt);
  });
}

}  // namespace netpress
