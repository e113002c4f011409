// Stacks, and the switch from one to another. A launch of 256 threads with ten shuffles switches
// some 5000 times; `swapcontext` asks the kernel for the signal mask each time, so the one
// machine that everyone tests on has a switch of its own.

#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>
#include <vector>

#if defined(DIGAN_SANITIZED_FIBERS)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emu {
namespace {

#if defined(DIGAN_SANITIZED_FIBERS)
constexpr size_t kStack = 1024 * 1024;  // zones between variables take room
#else
constexpr size_t kStack = 256 * 1024;  // committed as it is touched
#endif
constexpr size_t kGuard = 4096;  // below each: running over it traps

char* stack_of(int number) {
  static std::vector<char*> stacks;
  while (static_cast<int>(stacks.size()) <= number) {
    void* stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) {
      throw std::bad_alloc();
    }
    mprotect(stack, kGuard, PROT_NONE);
    stacks.push_back(static_cast<char*>(stack));
  }
  return stacks[number];
}

#if defined(DIGAN_SANITIZED_FIBERS)
Fiber* entering = nullptr;  // that runs for the first time
const void* scheduler_stack = nullptr;
size_t scheduler_stack_size = 0;
#endif

}  // namespace

#if defined(__x86_64__)

// Pushes the registers that a function must keep, leaves its stack pointer in *from, takes the
// other stack and pops what was pushed there.
extern "C" void emulated_switch(void** from, void* to);
asm(R"(
.text
.hidden emulated_switch
.globl emulated_switch
.type emulated_switch, @function
emulated_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulated_switch, .-emulated_switch
)");

void Fiber::set_up(void (*function)(), int stack) {
  auto* top = reinterpret_cast<uintptr_t*>(stack_of(stack) + kStack);
  *--top = 0;  // the return address of `function`, which has none; aligned as after a call
  *--top = reinterpret_cast<uintptr_t>(function);
  for (int i = 0; i < 6; ++i) {
    *--top = 0;
  }
  mine_ = top;
}

void Fiber::switch_in() {
  emulated_switch(&scheduler_, mine_);
}
void Fiber::switch_out() {
  emulated_switch(&mine_, scheduler_);
}

#else

void Fiber::set_up(void (*function)(), int stack) {
  getcontext(&mine_);
  mine_.uc_stack.ss_sp = stack_of(stack);
  mine_.uc_stack.ss_size = kStack;
  mine_.uc_link = nullptr;
  makecontext(&mine_, function, 0);
}

void Fiber::switch_in() {
  swapcontext(&scheduler_, &mine_);
}
void Fiber::switch_out() {
  swapcontext(&mine_, &scheduler_);
}

#endif

#if defined(DIGAN_SANITIZED_FIBERS)

void Fiber::enter() {
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
  entering->function_();
}

void Fiber::start(void (*function)(), int stack) {
  stack_ = stack_of(stack);
  // The one before it ended in the middle of a function, whose zones would be found again.
  __asan_unpoison_memory_region(stack_, kStack);
  function_ = function;
  my_frames_ = nullptr;
  set_up(enter, stack);
}

void Fiber::resume() {
  void* scheduler_frames = nullptr;
  entering = this;
  __sanitizer_start_switch_fiber(&scheduler_frames, stack_, kStack);
  switch_in();
  __sanitizer_finish_switch_fiber(scheduler_frames, nullptr, nullptr);
}

void Fiber::yield() {
  __sanitizer_start_switch_fiber(&my_frames_, scheduler_stack, scheduler_stack_size);
  switch_out();
  __sanitizer_finish_switch_fiber(my_frames_, &scheduler_stack, &scheduler_stack_size);
}

#else

void Fiber::start(void (*function)(), int stack) {
  set_up(function, stack);
}
void Fiber::resume() {
  switch_in();
}
void Fiber::yield() {
  switch_out();
}

#endif

}  // namespace emu
