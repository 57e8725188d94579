// Bounded byte window that the arithmetic decoder reads from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace netpress {

class ByteWindow {
 public:
  ByteWindow(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  size_t size() const { return size_; }
  const uint8_t* data() const { return data_; }
  uint8_t operator[](size_t i) const { return data_[i]; }

  // Four bytes from `position` as a big-endian integer; bytes beyond the end read as 0.
  uint32_t read32(size_t position) const {
    if (position + 4 <= size_) {
      uint32_t word;
      std::memcpy(&word, data_ + position, 4);
      return __builtin_bswap32(word);
    }
    uint32_t word = 0;
    for (size_t i = 0; i < 4; ++i) {
      word = word << 8 | (position + i < size_ ? data_[position + i] : 0u);
    }
    return word;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

}  // namespace netpress
