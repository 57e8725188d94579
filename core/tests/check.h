// Checks that tell where they failed and let the test go on.
#pragma once

#include <cstdio>
#include <string>

namespace netpress::test {

inline int failures = 0;
inline std::string place;  // what is being tested, for the message

inline bool check(bool truth, const char* what, const char* file, int line) {
  if (!truth && ++failures <= 20) std::fprintf(stderr, "%s:%d: %s: not true: %s\n", file, line, place.c_str(), what);
  return truth;
}

inline int result() {
  if (failures > 0) std::fprintf(stderr, "%d checks failed\n", failures);
  return failures > 0;
}

}  // namespace netpress::test

#define CHECK(truth) ::netpress::test::check((truth), #truth, __FILE__, __LINE__)
