// What the processor can do beyond the instructions that every one of its kind has.
#pragma once

#if defined(__x86_64__)
#include <cpuid.h>

namespace netpress {

// Shifts by a variable and counts of leading zeros in single instructions.
inline bool has_bmi2() {
  // Not every compiler knows the name lzcnt: bit 5 of ecx.
  static const bool has = [] {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
           __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && (ecx >> 5 & 1);
  }();
  return has;
}

}  // namespace netpress

#endif
