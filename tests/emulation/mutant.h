// Faults planted by mutate.py: a mutated source holds all of them, one is active at a time.

#pragma once

namespace emu {

extern int active_mutant;  // 0 for none

inline bool mutant(int number) {
  return active_mutant == number;
}

// An index, stride or extent that is off by one in its mutant.
template <class T>
auto off_by_one(int number, T value) -> decltype(static_cast<T>(value + 1)) {
  return active_mutant == number ? static_cast<T>(value + 1) : value;
}

}  // namespace emu
