// Binary arithmetic coder: context-coded bins, bypass bins, termination. Values are exactly those of a coder with an
// unbounded low register; the registers here only hold the part that can still change.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "bits.h"
#include "probability.h"
#include "status.h"

namespace netpress {

inline unsigned lps_range(unsigned range, int sum) {
  const int column = sum >> 7;  // floor shift first: negative sums land one column further out than positive ones
  return kLpsRange[(range >> 5) & 7][column < 0 ? -column : column];
}

class ArithmeticEncoder {
 public:
  void bin(Context& context, bool value) {
    const int sum = context.sum();
    const unsigned lps = lps_range(range_, sum);
    range_ -= lps;
    if (value != (sum >= 0)) {
      low_ += range_;
      range_ = lps;
    }
    context.update(value);
    const int shift = std::countl_zero(static_cast<uint32_t>(range_)) - 23;
    range_ <<= shift;
    low_ <<= shift;
    pending_ += shift;
    if (pending_ >= 32) flush();
  }

  // `count` equiprobable bins, most significant first; count <= 31.
  void bypass(uint32_t value, int count) {
    if (count == 0) return;
    if (pending_ + count > 50) flush_bits(pending_);
    low_ = (low_ << count) + static_cast<uint64_t>(range_) * value;
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
    tail(static_cast<uint32_t>(low_ & 511), 9);
    if (tail_bits_ > 0) tail(0, 8 - tail_bits_);
    return std::move(bytes_);
  }

 private:
  void flush() { flush_bits(32); }

  // Moves the top `count` of the 9 + pending_ register bits out.
  void flush_bits(int count) {
    if (count == 0) return;
    const int below = 9 + pending_ - count;
    const uint64_t top = low_ >> below;
    carry(top >> count);
    tail(static_cast<uint32_t>(top & ((uint64_t{1} << (count < 32 ? count : 32)) - 1)), count);
    low_ &= (uint64_t{1} << below) - 1;
    pending_ -= count;
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

  // Appends `count` bits (<= 32) to the output.
  void tail(uint32_t bits, int count) {
    uint64_t all = static_cast<uint64_t>(tail_) << count | bits;
    int n = tail_bits_ + count;
    while (n >= 8) {
      n -= 8;
      bytes_.push_back(static_cast<uint8_t>(all >> n));
    }
    tail_bits_ = n;
    tail_ = static_cast<uint32_t>(all & ((1u << n) - 1));
  }

  uint64_t low_ = 0;
  unsigned range_ = 510;
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
    value_ = static_cast<uint64_t>(window_.read32(0)) << 32 | window_.read32(4);
    position_ = 8;
    spare_ = 55;
    if (value_ >> 55 >= 510) throw Failure(Status::kBadStart);
  }

  bool bin(Context& context) {
    const int sum = context.sum();
    const unsigned lps = lps_range(range_, sum);
    bool value = sum >= 0;
    range_ -= lps;
    const uint64_t scaled = static_cast<uint64_t>(range_) << 55;
    if (value_ >= scaled) {
      value_ -= scaled;
      range_ = lps;
      value = !value;
    }
    context.update(value);
    const int shift = std::countl_zero(static_cast<uint32_t>(range_)) - 23;
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
      const uint64_t numerator = value_ >> (55 - part);
      const uint64_t quotient = numerator / range_;  // < 2^part because the window is below the range
      value_ -= (quotient * range_) << (55 - part);
      result = result << part | static_cast<uint32_t>(quotient);
      skip(part);
      count -= part;
    }
    return result;
  }

  void restart_range() {
    // A conforming encoder leaves the window below 256 here.
    range_ = 256;
    if (value_ >> 55 >= 256) throw Failure(Status::kBadTermination);
  }

  uint64_t doublings() const { return static_cast<uint64_t>(position_) * 8 - 9 - static_cast<uint64_t>(spare_); }
  unsigned window() const { return static_cast<unsigned>(value_ >> 55); }

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
    value_ |= static_cast<uint64_t>(window_.read32(position_)) << (23 - spare_);
    position_ += 4;
    spare_ += 32;
  }

  ByteWindow window_;
  uint64_t value_ = 0;     // decoder offset, its nine integer bits on top
  unsigned range_ = 510;
  int spare_ = 0;          // bits of value_ below the nine that come from the payload
  size_t position_ = 0;    // next byte to fetch
};

}  // namespace netpress
