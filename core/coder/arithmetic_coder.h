// Binary arithmetic coder: context-coded bins, bypass bins, termination. Values are exactly those of a coder with an
// unbounded low register; the registers here only hold the part that can still change.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/bits.h"
#include "coder/probability.h"
#include "base/status.h"

namespace netpress {

inline uint64_t lps_range(uint64_t range, std::ptrdiff_t sum) {
  return kBinTables.lps_rows[32 + (sum >> 7)] >> (range >> 2 & 56) & 255;
}

// Doublings that bring a range back to 256 .. 511.
inline int normalising_shift(uint64_t range) { return __builtin_clzll(range) - 55; }

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

class ArithmeticDecoder {
 public:
  ArithmeticDecoder(const uint8_t* data, size_t size) : window_(data, size) {
    if (size < 2) throw Failure(Status::kBadStart);
    value_ = static_cast<uint64_t>(window_.read32(0)) << (kPoint - 23);
    if (window() >= 510) throw Failure(Status::kBadStart);
  }

  bool bin(Context& context) {
    const int sum = context.sum();
    const uint64_t lps = lps_range(range_, sum);
    const uint64_t mps = range_ - lps;
    // Which interval it is can hardly be predicted: masks, no branch.
    const uint64_t above = value_ - (mps << kPoint);
    const uint64_t lower = static_cast<uint64_t>(static_cast<int64_t>(above) >> 63);
    value_ = above + (mps << kPoint & lower);
    range_ = lps + ((mps - lps) & lower);
    const bool value = static_cast<bool>((static_cast<unsigned>(sum) >> 31 ^ static_cast<unsigned>(lower)) & 1);
    context.update(value);
    const int shift = normalising_shift(range_);
    range_ <<= shift;
    skip(shift);
    return value;
  }

  // `count` equiprobable bins, most significant first; count <= 31.
  uint32_t bypass(int count) {
    uint32_t result = 0;
    while (count > 0) {
      const int part = count < 16 ? count : 16;
      if (spare_ < part) refill();
      const uint64_t numerator = value_ >> (kPoint - part);
      const uint64_t quotient = numerator / range_;  // < 2^part because the window is below the range
      value_ -= (quotient * range_) << (kPoint - part);
      result = result << part | static_cast<uint32_t>(quotient);
      skip(part);
      count -= part;
    }
    return result;
  }

  void restart_range() {
    // A conforming encoder leaves the window below 256 here.
    range_ = 256;
    if (window() >= 256) throw Failure(Status::kBadTermination);
  }

  uint64_t doublings() const { return static_cast<uint64_t>(position_) * 8 - 9 - static_cast<uint64_t>(spare_); }
  unsigned window() const { return static_cast<unsigned>(value_ >> kPoint); }

  // The registers, for loops that keep those of several decoders at once. Below its nine integer bits, which begin at
  // kPoint, `value` holds `spare` bits of the payload that are accounted for. Behind these may be more, as they stand
  // in the payload.
  struct Registers {
    uint64_t value;
    uint64_t range;
    int64_t spare;
    const uint8_t* next;
  };
  static constexpr int kPoint = 54;  // of value; the sign bit stays free for comparisons

  Registers registers() const { return {value_, range_, spare_, window_.data() + position_}; }
  void set_registers(const Registers& r) {
    value_ = r.value;
    range_ = r.range;
    spare_ = static_cast<int>(r.spare);
    position_ = static_cast<size_t>(r.next - window_.data());
  }
  // Bytes of the payload that are still to be fetched; negative behind its end.
  int64_t bytes_left() const { return static_cast<int64_t>(window_.size()) - static_cast<int64_t>(position_); }

  // Reads the terminating bin; checks stop pattern and that the payload is used up to its last byte.
  void finish() {
    const uint64_t n = doublings();
    if (2 + n / 8 > window_.size()) throw Failure(Status::kTruncated);
    range_ -= 2;
    if (window() < range_) throw Failure(Status::kBadTermination);
    const size_t consumed = 2 + n / 8;
    const unsigned last = static_cast<unsigned>(window_[consumed - 1]) << ((n + 8) & 7) & 0xFF;
    if (last != 0x80 || consumed != window_.size()) throw Failure(Status::kBadTermination);
  }

 private:
  void skip(int shift) {
    value_ <<= shift;
    spare_ -= shift;
    if (spare_ < 0) refill();
  }

  void refill() {
    if (position_ > window_.size() + 8) throw Failure(Status::kTruncated);
    value_ |= static_cast<uint64_t>(window_.read32(position_)) << (kPoint - 32 - spare_);
    position_ += 4;
    spare_ += 32;
  }

  ByteWindow window_;
  uint64_t value_;         // decoder offset, nine integer bits
  uint64_t range_ = 510;
  int spare_ = 23;         // fractional bits of value_ that come from the payload
  size_t position_ = 4;    // next byte to fetch
};

}  // namespace netpress
