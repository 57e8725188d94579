// Binary arithmetic decoder: context-coded bins, bypass bins, termination. Source: ISO/IEC 15938-17, arithmetic
// decoding engine.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bits.h"
#include "base/status.h"
#include "coder/range.h"

namespace netpress {

class ArithmeticDecoder {
 public:
  ArithmeticDecoder(const uint8_t* data, size_t size) : window_(data, size) {
    value_ = static_cast<uint64_t>(window_.read32(0)) << (kPoint - 23);
    if (size < 2 || window() >= 510) fail(Status::kBadStart);
  }

  // Source: ISO/IEC 15938-17, decoding of a context-coded bin.
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

  // `count` equiprobable bins, most significant first; count <= 31. Source: ISO/IEC 15938-17, bypass decoding.
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
    if (window() >= 256) fail(Status::kBadTermination);
  }

  uint64_t doublings() const { return static_cast<uint64_t>(position_) * 8 - 9 - static_cast<uint64_t>(spare_); }
  unsigned window() const { return static_cast<unsigned>(value_ >> kPoint); }

  // The registers, for loops that keep those of several decoders at once. Below its nine integer bits, which begin at
  // kPoint, `value` holds `spare` bits of the payload that are accounted for. More may follow them, as they stand in
  // the payload.
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
  // Bytes of the payload that are still to be fetched; negative past its end.
  int64_t bytes_left() const { return static_cast<int64_t>(window_.size()) - static_cast<int64_t>(position_); }

  // Reads the terminating bin; checks stop pattern and that the payload is used up to its last byte. Source: ISO/IEC
  // 15938-17, decoding before termination.
  void finish() {
    if (failed()) return;
    const uint64_t n = doublings();
    const size_t consumed = 2 + n / 8;
    if (consumed > window_.size()) return fail(Status::kTruncated);
    range_ -= 2;
    if (window() < range_) return fail(Status::kBadTermination);
    const unsigned last = static_cast<unsigned>(window_[consumed - 1]) << ((n + 8) & 7) & 0xFF;
    if (last != 0x80 || consumed != window_.size()) fail(Status::kBadTermination);
  }

  // The first failure stays. After one, bins still come, out of zeros in the end: loops may run on for a while before
  // they look.
  void fail(Status status) {
    if (status_ == Status::kOk) status_ = status;
  }
  Status status() const { return status_; }
  bool failed() const { return status_ != Status::kOk; }

 private:
  void skip(int shift) {
    value_ <<= shift;
    spare_ -= shift;
    if (spare_ < 0) refill();
  }

  void refill() {
    if (position_ > window_.size() + 8) fail(Status::kTruncated);
    value_ |= static_cast<uint64_t>(window_.read32(position_)) << (kPoint - 32 - spare_);
    position_ += 4;
    spare_ += 32;
  }

  ByteWindow window_;
  uint64_t value_;         // decoder offset, nine integer bits
  uint64_t range_ = 510;
  int spare_ = 23;         // fractional bits of value_ that come from the payload
  Status status_ = Status::kOk;
  size_t position_ = 4;    // next byte to fetch
};

}  // namespace netpress
