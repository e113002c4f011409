// The program: driver [--seed N] [--rounds N] [--plant short|flag|unwritten] [name ...]

#include "driver.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "fault.h"
#include "float16.h"
#include "schedule.h"

// Fibers are no threads: what a leak checker sees of their stacks is of no use.
extern "C" const char* __asan_default_options() {
  return "detect_leaks=0:detect_stack_use_after_return=0:abort_on_error=0";
}
extern "C" const char* __ubsan_default_options() {
  return "print_stacktrace=1";
}

namespace driver {

std::string planted;

namespace {

// Shorter than the zone that AddressSanitizer keeps behind each piece of heap.
constexpr int64_t kSlack = 16;

std::vector<Entry>& entries() {
  static std::vector<Entry> found;
  return found;
}

int64_t calls = 0;

void put(char* memory, Number number, int64_t i, double value) {
  const auto narrow = static_cast<float>(value);
  const emu::bf16 brain = __float2bfloat16_rn(narrow);
  const emu::f16 half = __float2half_rn(narrow);
  const void* from = number == Number::kF64    ? static_cast<const void*>(&value)
                     : number == Number::kF32  ? static_cast<const void*>(&narrow)
                     : number == Number::kBF16 ? static_cast<const void*>(&brain)
                                               : static_cast<const void*>(&half);
  std::memcpy(memory + i * size_of(number), from, size_of(number));
}

double get(const char* memory, Number number, int64_t i) {
  const char* at = memory + i * size_of(number);
  const auto read = [at]<class T>(T value) {
    std::memcpy(&value, at, sizeof(value));
    return value;
  };
  switch (number) {
    case Number::kF64:
      return read(double());
    case Number::kF32:
      return read(float());
    case Number::kBF16:
      return __bfloat162float(read(emu::bf16()));
    case Number::kF16:
      return __half2float(read(emu::f16()));
  }
  return NAN;
}

[[noreturn]] void give_up(const std::string& text) {
  std::fprintf(stderr, "driver: %s\n", text.c_str());
  std::exit(1);
}

}  // namespace

Entry::Entry(const char* name, void (*run)(Draw&)) : name(name), run(run) {
  entries().push_back(*this);
}

const char* name_of(Number number) {
  constexpr const char* kNames[] = {"float64", "float32", "bfloat16", "float16"};
  return kNames[static_cast<int>(number)];
}

std::string text_of(const LayerKind& kind) {
  return std::string(name_of(kind.number)) + (kind.tf32 ? " tf32" : kind.hopper ? " hopper" : "");
}

digan::Pointwise Draw::pointwise() {
  digan::Pointwise drawn;
  drawn.activation = static_cast<digan::Activation>(below(std::size(digan::kActivationNames)));
  drawn.alpha = below(3) == 0 ? -0.4 : 0.3;
  drawn.gain = below(3) == 0 ? -0.7 : 1.4;
  drawn.clamps = flip();
  drawn.clamp = drawn.clamps ? 0.8 : 0;
  if (planted == "flag") {
    std::memset(static_cast<void*>(&drawn.clamps), 2, 1);
  }
  return drawn;
}

std::string text_of(const digan::Pointwise& pointwise) {
  std::ostringstream text;
  text << digan::kActivationNames[static_cast<int>(pointwise.activation)] << ", alpha "
       << pointwise.alpha << ", gain " << pointwise.gain << ", clamp " << pointwise.clamp;
  return text.str();
}

Call::Piece& Call::add(int64_t bytes, int64_t held, emu::Access access) {
  auto memory = std::unique_ptr<char[]>(new char[held]);
  std::memset(memory.get(), 0xff, held);  // NaN of every type
  emu::Allocation registered(memory.get(), bytes + kSlack, access, what_.c_str());
  pieces_.push_back({std::move(memory), std::move(registered), Number::kF32, 0});
  return pieces_.back();
}

const void* Call::in(Number number, int64_t count, double scale) {
  const int64_t bytes = count * size_of(number);
  char* memory = add(bytes, bytes, emu::Access::kRead).memory.get();
  for (int64_t i = 0; i < count; ++i) {
    put(memory, number, i, scale * draw_.normal());
  }
  return memory;
}

void* Call::fresh(int64_t bytes) {
  return add(bytes, bytes, emu::Access::kReadWrite).memory.get();
}

void* Call::out(Number number, int64_t count) {
  count += planted == "unwritten" ? 1 : 0;
  const bool shortened = planted == "short" && count > 0;
  const int64_t bytes = count * size_of(number);
  Piece& piece = add(bytes, bytes - (shortened ? size_of(number) : 0), emu::Access::kReadWrite);
  piece.number = number;
  piece.count = count;
  return piece.memory.get();
}

void Call::done(cudaError_t error) {
  ++calls;
  if (error != cudaSuccess) {
    give_up(what_ + ": error " + std::to_string(error) + ", " + emu::last_report());
  }
  for (const Piece& piece : pieces_) {
    for (int64_t i = 0; i < piece.count; ++i) {
      if (!std::isfinite(get(piece.memory.get(), piece.number, i))) {
        give_up(what_ + ": number " + std::to_string(i) + " of an output of " +
                std::to_string(piece.count) + " is not finite");
      }
    }
  }
}

}  // namespace driver

int main(int count, char** words) {
  uint64_t seed = 0;
  int rounds = 1;
  std::vector<std::string> names;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    const bool takes_more = word == "--seed" || word == "--rounds" || word == "--plant";
    if (!takes_more) {
      names.push_back(word);
    } else if (++i == count) {
      driver::give_up(word + " must be followed by a value");
    } else if (word == "--seed") {
      seed = std::strtoull(words[i], nullptr, 10);
    } else if (word == "--rounds") {
      rounds = std::atoi(words[i]);
    } else {
      driver::planted = words[i];
    }
  }
  for (int round = 0; round < rounds; ++round) {
    for (const driver::Entry& entry : driver::entries()) {
      bool wanted = names.empty();
      for (const std::string& name : names) {
        wanted = wanted || name == entry.name;
      }
      if (!wanted) {
        continue;
      }
      emu::set_seed(seed + round);
      driver::Draw draw(seed + round);
      const int64_t before = driver::calls;
      entry.run(draw);
      std::printf("%s: seed %llu, %lld calls, all finite\n", entry.name,
                  static_cast<unsigned long long>(seed + round),
                  static_cast<long long>(driver::calls - before));
    }
  }
  return driver::calls > 0 ? 0 : 1;
}
