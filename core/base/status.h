// Outcome codes of the core. The decoder records the first one that is not kOk and returns it; the encoder and the
// quantisers throw it as a Failure (base/failure.h). The binding maps codes in one table.
#pragma once

#include <cstdint>

namespace netpress {

enum class Status : uint8_t {
  kOk,
  kTruncated,         // a bin needs a bit beyond the end of the payload
  kBadStart,          // payload shorter than two bytes or an impossible first window
  kBadTermination,    // terminating bin or stop pattern is wrong, or bytes are left over
  kValueOutOfRange,   // a coded integer, or the level it stands for, leaves 32 bits
  kReservedFlag,      // the first-edition flag that is always 0 is 1
  kIndexOutOfRange,   // a codebook index outside the codebook
  kBadParameter,      // an argument that no header can carry
  kLevelOutOfRange,   // encoder: a level or field that the syntax cannot carry
};

inline const char* message_of(Status status) {
  switch (status) {
    case Status::kOk: return "";
    case Status::kTruncated: return "the payload ends before its last integer";
    case Status::kBadStart: return "the payload does not start like a codeword";
    case Status::kBadTermination: return "the payload does not end where its codeword ends";
    case Status::kValueOutOfRange: return "a coded integer does not fit 32 bits";
    case Status::kReservedFlag: return "a flag that is always 0 is 1";
    case Status::kIndexOutOfRange: return "a codebook index is outside the codebook";
    case Status::kBadParameter: return "a coding parameter is outside its range";
    case Status::kLevelOutOfRange: return "a value is too large for the syntax";
  }
  return "unknown failure";
}

}  // namespace netpress
