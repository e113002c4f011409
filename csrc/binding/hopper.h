// Whether the path for cards of 9.0 is asked for.

#pragma once

#ifdef DIGAN_EMULATED
#include "gemm/hopper/wgmma.cuh"
#else
#include <cstdlib>
#include <string_view>
#endif

namespace digan {

// DIGAN_HOPPER=1 of the environment, read once. Under the emulator, what its controls said last.
inline bool hopper_asked() {
#ifdef DIGAN_EMULATED
  return emu::hopper_asked;
#else
  static const bool asked = [] {
    const char* wish = std::getenv("DIGAN_HOPPER");
    return wish != nullptr && std::string_view(wish) == "1";
  }();
  return asked;
#endif
}

}  // namespace digan
