// A program that calls every launcher of csrc/ as a C++ program would, without Python and PyTorch,
// for the compiler's sanitizers to watch: the kernels run on the emulator's fibers.
//
// Each tensor is a piece of heap of exactly its size. The emulator is told that it is a little
// longer, so that what runs over an end is AddressSanitizer's to find; outputs and workspaces hold
// NaN before a launch, and an output must be finite after it.

#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "activation.h"
#include "memory.h"
#include "number.h"
#include "runtime.h"

namespace driver {

using digan::Number;

inline constexpr Number kNumbers[] = {Number::kF64, Number::kF32, Number::kBF16, Number::kF16};
inline constexpr Number kWideNumbers[] = {Number::kF64, Number::kF32};

// The arithmetics of a linear layer: its numbers, products in tf32, the path of cards of 9.0.
struct LayerKind {
  Number number;
  bool tf32 = false, hopper = false;
};
inline constexpr LayerKind kLayerKinds[] = {
    {Number::kF64},
    {Number::kF32},
    {Number::kBF16},
    {Number::kF16},
    {Number::kF32, true},
    {Number::kBF16, false, true},
    {Number::kF16, false, true},
};

const char* name_of(Number number);

// "bfloat16 hopper"
std::string text_of(const LayerKind& kind);

// The type of sums.
inline Number wide_of(Number number) {
  return number == Number::kF64 ? Number::kF64 : Number::kF32;
}

// What is drawn: all of it follows from the program's seed.
class Draw {
 public:
  explicit Draw(uint64_t seed) : engine_(seed) {}

  int64_t below(int64_t n) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(n)); }
  bool flip() { return below(2) != 0; }
  double normal() { return normal_(engine_); }

  // An activation with its numbers; those of both signs, as they decide what is kept.
  digan::Pointwise pointwise();

 private:
  std::mt19937_64 engine_;
  std::normal_distribution<double> normal_;
};

// One launch and its memory.
class Call {
 public:
  Call(Draw& draw, std::string what) : draw_(draw), what_(std::move(what)) {}

  // [count] random numbers.
  const void* in(Number number, int64_t count, double scale = 1);
  // [count], to be written everywhere.
  void* out(Number number, int64_t count);
  // [bytes], to be written everywhere; any byte will do.
  void* out_bytes(int64_t bytes) { return fresh(bytes); }
  // A workspace.
  void* work(Number number, int64_t count) { return fresh(count * size_of(number)); }
  void* work_bytes(int64_t bytes) { return fresh(bytes); }

  // Ends the program with a report where the launch failed or an output is not finite.
  void done(cudaError_t error);

 private:
  struct Piece {
    std::unique_ptr<char[]> memory;
    emu::Allocation registered;
    Number number;
    int64_t count;  // of numbers that must be finite
  };

  void* fresh(int64_t bytes);
  Piece& add(int64_t bytes, int64_t held, emu::Access access);

  Draw& draw_;
  std::string what_;
  std::list<Piece> pieces_;
};

// What `--plant` asks for: nothing, "short" (outputs have one number too few), "unwritten" (one too
// many, which no kernel writes), or "flag" (a bool that is neither true nor false).
extern std::string planted;

// A file's calls, under the name of its launchers' header.
struct Entry {
  Entry(const char* name, void (*run)(Draw&));
  const char* name;
  void (*run)(Draw&);
};

// "lrelu, gain 1.2"
std::string text_of(const digan::Pointwise& pointwise);

}  // namespace driver
