// The same code for each instruction set; the loader picks. What is built with it has -O3: see
// CMakeLists.txt. Under the thread sanitizer one copy: what picks runs before the loader has bound
// a function, and would call one of the sanitizer's.
#pragma once

#include <version>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(_GLIBCXX_TSAN)
#define SECATEUR_SIMD __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SECATEUR_SIMD
#endif
