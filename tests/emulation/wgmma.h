// wgmma: asynchronous products of a warpgroup, see csrc/gemm/hopper/wgmma.cuh.
//
// Each of the four warps makes its own 16 rows when it gets there, as late as it may: at the wait
// for the group. Until then its accumulators are NaN, and
//
//   - accumulators or registers of A that changed since their wgmma_fence, or without one,
//   - those that change before the wait,
//   - writes to the shared memory that it reads (SharedCell::products),
//   - products of which the warps of a warpgroup issue different ones,
//   - products that a warp leaves behind when it ends
//
// are faults. The operands' places come from the descriptors' bits alone.

#pragma once

#include <cstdint>
#include <type_traits>

#include "schedule.h"
#include "shared.h"
#include "tensor_cores.h"

namespace emu {

// Whether launchers take the path for cards of 9.0.
extern bool hopper_asked;

// Where the memory that a launch sizes begins for instructions that take addresses: behind what
// cards of 9.0 keep for themselves.
constexpr uint32_t kDynamicAddress = 1024;
uint32_t address_of(SharedStorage& storage, int64_t at);

// One thread's part of a product.
struct GroupProduct {
  Operand type;
  int columns;  // N
  float* d;     // N / 2
  const uint32_t* a_registers;
  uint64_t a, b;        // descriptors; a is none where A is in registers
  bool a_kept, b_kept;  // the kept axis along the rows
  bool adds;
};

void fence_registers(const void* registers, int bytes);  // of the running thread
void meet_for_fence(Where where);
void issue_product(GroupProduct product, Where where);
void commit_products(Where where);
void wait_for_products(int pending, Where where);
// When a block has ended: nothing may be under way, and every warp of a warpgroup took part.
void check_products_ended();

}  // namespace emu

namespace digan {

template <class T>
uint32_t shared_address(emu::Shared<T> pointer) {
  return emu::address_of(pointer.storage(), pointer.at());
}

}  // namespace digan

namespace digan::gemm::hopper {

template <class... Registers>
void wgmma_fence(Registers&... registers) {
  (emu::fence_registers(registers, sizeof(registers)), ...);
  emu::meet_for_fence(emu::Where::current());
}

inline void wgmma_commit(emu::Where where = emu::Where::current()) {
  emu::commit_products(where);
}

template <int kPending, class... Registers>
void wgmma_wait(Registers&...) {
  emu::wait_for_products(kPending, emu::Where::current());
}

template <class T>
constexpr emu::Operand kOperand =
    std::is_same_v<T, emu::bf16> ? emu::Operand::kBF16 : emu::Operand::kF16;

template <class T, Major kMajorA, Major kMajorB, int kCount>
void wgmma(float (&d)[kCount],
           uint64_t a,
           uint64_t b,
           bool adds = true,
           emu::Where where = emu::Where::current()) {
  emu::issue_product({kOperand<T>, 2 * kCount, d, nullptr, a, b, kMajorA == Major::kKept,
                      kMajorB == Major::kKept, adds},
                     where);
}

template <class T, Major kMajorB, int kCount>
void wgmma(float (&d)[kCount],
           const uint32_t (&a)[4],
           uint64_t b,
           bool adds = true,
           emu::Where where = emu::Where::current()) {
  emu::issue_product({kOperand<T>, 2 * kCount, d, a, 0, b, false, kMajorB == Major::kKept, adds},
                     where);
}

}  // namespace digan::gemm::hopper
