// The number types that launchers take by name. No CUDA header is needed to call a launcher.

#pragma once

namespace digan {

enum class Number { kF64, kF32, kBF16, kF16 };

inline int size_of(Number number) {
  return number == Number::kF64 ? 8 : number == Number::kF32 ? 4 : 2;
}

}  // namespace digan
