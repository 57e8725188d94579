// A status as an exception, for the encoder, the quantisers and whoever calls the decoder from code with exceptions.
#pragma once

#include <exception>

#include "base/status.h"

namespace netpress {

class Failure : public std::exception {
 public:
  explicit Failure(Status status) : status_(status) {}
  Status status() const { return status_; }
  const char* what() const noexcept override { return message_of(status_); }

 private:
  Status status_;
};

inline void require(Status status) {
  if (status != Status::kOk) throw Failure(status);
}

}  // namespace netpress
