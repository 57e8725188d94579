// What the processor can do beyond the instructions that every one of its kind has, and how functions ask the compiler
// for it. Nothing else in the core asks either.
#pragma once

#define NETPRESS_INLINE inline __attribute__((always_inline))

#if defined(__x86_64__)
#include <cpuid.h>

#define NETPRESS_AVX2 __attribute__((target("avx2")))
// Shifts by a variable and counts of leading zeros are single instructions.
#define NETPRESS_BMI2 __attribute__((target("bmi,bmi2,lzcnt")))
#endif

namespace netpress {

inline bool has_avx2() {
#if defined(__x86_64__)
  __builtin_cpu_init();  // the tables of kernels are filled before main()
  return __builtin_cpu_supports("avx2");
#else
  return false;
#endif
}

inline bool has_bmi2() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  // Not every compiler knows the name lzcnt: bit 5 of ecx.
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
         __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && (ecx >> 5 & 1);
#else
  return false;
#endif
}

}  // namespace netpress
