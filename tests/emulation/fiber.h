// A fiber: a function with a stack of its own, which runs until it yields or ends.

#pragma once

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emu {

class Fiber {
 public:
  // The next resume() enters `function`, which must never return: it ends with a yield().
  void start(void (*function)(), int stack);
  void resume();  // from the scheduler, until the fiber yields
  void yield();   // from inside the fiber

 private:
#if defined(__x86_64__)
  void* mine_ = nullptr;
  void* scheduler_ = nullptr;
#else
  ucontext_t mine_, scheduler_;
#endif
};

}  // namespace emu
