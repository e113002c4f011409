// Whether a launch takes the path for cards of 9.0, and how many of its blocks there are.

#pragma once

#include "number.h"
#include "runtime.h"

namespace digan::gemm::hopper {

// Whether this library holds code for 9.0a, which runs on no other card.
#if defined(DIGAN_EMULATED) || defined(DIGAN_SM_90A)
constexpr bool kIsBuilt = true;
#else
constexpr bool kIsBuilt = false;
#endif

inline bool is_the_card() {
#ifdef DIGAN_EMULATED
  return true;
#else
  int device = 0, major = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
         major == 9;
#endif
}

// `asked`: the caller wants it.
inline bool serves(bool asked, Number number) {
  return asked && kIsBuilt && size_of(number) == 2 && is_the_card();
}

}  // namespace digan::gemm::hopper
