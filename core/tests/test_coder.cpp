// The arithmetic coder and the estimator against the formulas of the standard, written down as they stand there.
#include "coder/arithmetic_decoder.h"
#include "coder/arithmetic_encoder.h"
#include "check.h"
#include "random_tensor.h"

using namespace netpress;
using namespace netpress::test;

namespace {

struct TextbookEstimator {
  int set;
  int a;
  int b;

  explicit TextbookEstimator(int e) : set(e), a(kEstimatorSets[e].fast), b(kEstimatorSets[e].sum - 16 * a) {}

  int sum() const { return b + 16 * a; }

  void update(bool bin) {
    const int g = bin ? 1 : -1;
    a += g * (kStepCurve[16 + ((g * a) >> 3)] >> kEstimatorSets[set].fast_shift);
    b += g * (kStepCurve[16 + ((g * b) >> 7)] >> kEstimatorSets[set].slow_shift);
  }
};

unsigned textbook_lps(unsigned range, int sum) { return kLpsRange[(range >> 5) & 7][std::abs(sum >> 7)]; }

// The codeword as a list of bits.
class TextbookEncoder {
 public:
  void bin(TextbookEstimator& e, bool value) {
    const unsigned lps = textbook_lps(range_, e.sum());
    range_ -= lps;
    if (value != (e.sum() >= 0)) {
      add(range_);
      range_ = lps;
    }
    for (; range_ < 256; range_ *= 2) low_.push_back(0);
    e.update(value);
  }

  void bypass(uint32_t value, int count) {
    while (count-- > 0) {
      low_.push_back(0);
      if (value >> count & 1) add(range_);
    }
  }

  void restart_range() { range_ = 256; }

  std::vector<uint8_t> finish() {
    add(range_ - 2);
    low_.back() = 1;
    while (low_.size() % 8 != 0) low_.push_back(0);
    std::vector<uint8_t> bytes(low_.size() / 8);
    for (size_t i = 0; i < low_.size(); ++i) bytes[i / 8] = static_cast<uint8_t>(bytes[i / 8] << 1 | low_[i]);
    return bytes;
  }

 private:
  void add(unsigned value) {
    unsigned carry = 0;
    for (size_t i = low_.size(); i-- > 0 && (value > 0 || carry > 0); value >>= 1) {
      const unsigned digit = low_[i] + (value & 1) + carry;
      low_[i] = static_cast<uint8_t>(digit & 1);
      carry = digit >> 1;
    }
  }

  std::vector<uint8_t> low_ = std::vector<uint8_t>(9, 0);
  unsigned range_ = 510;
};

void estimators() {
  Random random(3);
  for (int e = 0; e < kSetCount; ++e) {
    place = "set " + std::to_string(e);
    for (const int64_t odds : {2, 3, 20, 1000}) {
      TextbookEstimator textbook(e);
      Context fast;
      fast.reset(static_cast<unsigned>(e));
      for (int i = 0; i < 30000; ++i) {
        const bool bin = random.coin(odds) != (i > 15000);
        textbook.update(bin);
        fast.update(bin);
        if (!CHECK(textbook.a == fast.fast && textbook.b == fast.slow && textbook.sum() == fast.sum())) return;
        const unsigned range = static_cast<unsigned>(random.between(256, 510));
        CHECK(lps_range(range, textbook.sum()) == textbook_lps(range, textbook.sum()));
      }
    }
  }
}

void codewords() {
  Random random(4);
  for (int round = 0; round < 400; ++round) {
    place = "codeword " + std::to_string(round);
    struct Event {
      int context;  // -1 bypass, -2 restart
      uint32_t bits;
      int count;
    };
    constexpr int kContexts = 9;
    std::vector<TextbookEstimator> textbook;
    std::vector<Context> fast(kContexts);
    for (int e = 0; e < kContexts; ++e) {
      textbook.emplace_back(e);
      fast[static_cast<size_t>(e)].reset(static_cast<unsigned>(e));
    }
    std::vector<Context> decoding = fast;
    std::vector<Event> events;
    TextbookEncoder expected;
    ArithmeticEncoder encoder;
    const int64_t length = random.coin(10) ? 3000 : random.below(60);
    const int64_t odds = random.between(2, 40);
    for (int64_t i = 0; i < length; ++i) {
      Event event{static_cast<int>(random.between(random.coin(20) ? -2 : 0, kContexts - 1)), 0, 0};
      if (event.context >= 0) {
        event.bits = random.coin(odds);
        expected.bin(textbook[static_cast<size_t>(event.context)], event.bits);
        encoder.bin(fast[static_cast<size_t>(event.context)], event.bits);
      } else if (event.context == -1) {
        event.count = static_cast<int>(random.below(32));
        // Long runs of ones make carries travel far.
        event.bits = static_cast<uint32_t>((random.coin() ? random.below(int64_t{1} << 31) : -1) &
                                           ((int64_t{1} << event.count) - 1));
        expected.bypass(event.bits, event.count);
        encoder.bypass(event.bits, event.count);
      } else {
        expected.restart_range();
        encoder.restart_range();
      }
      events.push_back(event);
    }
    const std::vector<uint8_t> bytes = encoder.finish();
    CHECK(bytes == expected.finish());
    ArithmeticDecoder decoder(bytes.data(), bytes.size());
    for (const Event& event : events) {
      if (event.context >= 0) {
        CHECK(decoder.bin(decoding[static_cast<size_t>(event.context)]) == (event.bits != 0));
      } else if (event.context == -1) {
        CHECK(decoder.bypass(event.count) == event.bits);
      } else {
        decoder.restart_range();
      }
    }
    decoder.finish();
    CHECK(decoder.status() == Status::kOk);
  }
}

}  // namespace

int main() {
  estimators();
  codewords();
  return result();
}
