// Binary arithmetic encoder: context-coded bins, bypass bins, termination. Values are exactly those of a coder with an
// unbounded low register; the registers here only hold the part that can still change. Source: ISO/IEC 15938-17,
// arithmetic coding engine, encoding process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "coder/range.h"

namespace netpress {

class ArithmeticEncoder {
 public:
  void bin(Context& context, bool value) {
    const uint16_t coded = value;
    bins(&context, &coded, 1);
  }

  // A row of bins, each 2 * (index of its context) + value.
  __attribute__((always_inline)) void bins(Context* contexts, const uint16_t* coded, size_t count) {
    uint64_t low = low_;
    uint64_t range = range_;
    int pending = pending_;
    for (const uint16_t* const end = coded + count; coded != end; ++coded) {
      Context& context = contexts[*coded >> 1];
      const bool value = *coded & 1;
      const int sum = context.sum();
      const uint64_t lps = lps_range(range, sum);
      const uint64_t mps = range - lps;
      // All ones for the upper interval; a mask, because it can hardly be predicted.
      const uint64_t upper = uint64_t{0} - (static_cast<uint64_t>(value) ^ (~static_cast<unsigned>(sum) >> 31));
      low += mps & upper;
      range = mps + ((lps - mps) & upper);
      context.update(value);
      const int shift = normalising_shift(range);
      range <<= shift;
      low <<= shift;
      pending += shift;
      if (pending >= 32) {
        const int below = 9 + pending - 32;
        put(low >> below, 32);
        low &= (uint64_t{1} << below) - 1;
        pending -= 32;
      }
    }
    low_ = low;
    range_ = range;
    pending_ = pending;
  }

  // `count` equiprobable bins, most significant first; count <= 31.
  void bypass(uint32_t value, int count) {
    if (count == 0) return;
    if (pending_ + count > 50) flush_bits(pending_);
    low_ = (low_ << count) + range_ * value;
    pending_ += count;
    if (pending_ >= 32) flush();
  }

  void restart_range() { range_ = 256; }

  // Doublings so far: the codeword prefix has 9 + doublings() bits.
  uint64_t doublings() const { return emitted_ + static_cast<uint64_t>(pending_); }
  unsigned low_window() const { return static_cast<unsigned>(low_ & 511); }

  // Terminating bin, stop bit, zero bits up to the next byte boundary. The encoder is spent afterwards.
  std::vector<uint8_t> finish() {
    range_ -= 2;
    low_ += range_;
    low_ |= 1;
    flush_bits(pending_);
    // Nine bits are left, plus a carry.
    carry(low_ >> 9);
    tail(low_ & 511, 9);
    if (tail_bits_ > 0) tail(0, 8 - tail_bits_);
    return std::move(bytes_);
  }

 private:
  void flush() { flush_bits(32); }

  // Moves the top `count` of the 9 + pending_ register bits out.
  void flush_bits(int count) {
    if (count == 0) return;
    const int below = 9 + pending_ - count;
    put(low_ >> below, count);
    low_ &= (uint64_t{1} << below) - 1;
    pending_ -= count;
  }

  // Appends `count` bits and the carry above them. Apart from the coding loop, whose registers stay registers.
  __attribute__((noinline)) void put(uint64_t bits, int count) {
    carry(bits >> count);
    tail(bits & ((uint64_t{1} << count) - 1), count);
    emitted_ += static_cast<uint64_t>(count);
  }

  void carry(uint64_t one) {
    if (one == 0) return;
    // The carry adds at the lowest bit written so far.
    if (tail_bits_ > 0) {
      tail_ += 1;
      if (tail_ >> tail_bits_ == 0) return;
      tail_ = 0;
    }
    size_t i = bytes_.size();
    while (i > 0 && ++bytes_[--i] == 0) {
    }
  }

  // Appends `count` bits (<= 50) to the output.
  void tail(uint64_t bits, int count) {
    uint64_t all = static_cast<uint64_t>(tail_) << count | bits;
    int n = tail_bits_ + count;
    while (n >= 8) {
      n -= 8;
      bytes_.push_back(static_cast<uint8_t>(all >> n));
    }
    tail_bits_ = n;
    tail_ = static_cast<uint32_t>(all) & ((1u << n) - 1);
  }

  uint64_t low_ = 0;
  uint64_t range_ = 510;
  int pending_ = 0;        // doublings whose bits are still in low_
  uint64_t emitted_ = 0;   // bits moved to the output
  uint32_t tail_ = 0;      // output bits that do not fill a byte yet
  int tail_bits_ = 0;
  std::vector<uint8_t> bytes_;
};

}  // namespace netpress
