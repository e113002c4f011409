// A fiber: a function with a stack of its own, which runs until it yields or ends.

#pragma once

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

// Where AddressSanitizer watches, it is told of every switch.
#if defined(__SANITIZE_ADDRESS__)
#define DIGAN_SANITIZED_FIBERS
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DIGAN_SANITIZED_FIBERS
#endif
#endif

namespace emu {

class Fiber {
 public:
  // The next resume() enters `function`, which must never return: it ends with a yield().
  void start(void (*function)(), int stack);
  void resume();  // from the scheduler, until the fiber yields
  void yield();   // from inside the fiber

 private:
  void set_up(void (*function)(), int stack);
  void switch_in();
  void switch_out();

#if defined(__x86_64__)
  void* mine_ = nullptr;
  void* scheduler_ = nullptr;
#else
  ucontext_t mine_, scheduler_;
#endif
#if defined(DIGAN_SANITIZED_FIBERS)
  static void enter();

  void (*function_)() = nullptr;
  const void* stack_ = nullptr;
  void* my_frames_ = nullptr;  // what the sanitizer keeps of a fiber that rests
#endif
};

}  // namespace emu
