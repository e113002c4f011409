// What the compiler calls where an index leaves an array of a thread's own (-fsanitize=bounds),
// which on a GPU would be another register.
//
// It assumes that the call throws nothing, so the fiber ends here.

#include <cstdio>
#include <cstdlib>

#include "fault.h"
#include "schedule.h"

namespace {

// As the compiler lays it out: where, the array's type, the index's type.
struct OutOfBounds {
  const char* file;
  uint32_t line;
  uint32_t column;
  void* array;
  void* index;
};

}  // namespace

extern "C" __attribute__((visibility("hidden"))) void __ubsan_handle_out_of_bounds(
    OutOfBounds* where, uintptr_t index) {
  const std::string file = where->file;
  const std::string text = "index " + std::to_string(static_cast<intptr_t>(index)) +
                           " is outside its array, " + file.substr(file.rfind('/') + 1) + ":" +
                           std::to_string(where->line);
  if (emu::self == nullptr) {
    std::fprintf(stderr, "%s\n", text.c_str());
    std::abort();
  }
  emu::end_thread(text);
}
