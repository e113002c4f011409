// ldmatrix and mma.sync, operations of a whole warp on fragments, and what prepares these: see
// csrc/ptx.cuh.

#pragma once

#include <cstdint>

#include "schedule.h"
#include "shared.h"

namespace emu {

enum class Operand { kBF16, kF16, kTF32 };

void load_matrices(
    uint32_t (&to)[4], SharedStorage& storage, int64_t at, bool transposed, Where where);
void multiply(
    Operand type, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where);

}  // namespace emu

namespace digan {

template <class T>
void ldmatrix_x4(uint32_t (&to)[4], emu::Shared<T> row, emu::Where where = emu::Where::current()) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4, "matrices of 16-bit numbers or of float32");
  emu::load_matrices(to, row.storage(), row.at(), false, where);
}

template <class T>
void ldmatrix_x4_trans(uint32_t (&to)[4],
                       emu::Shared<T> row,
                       emu::Where where = emu::Where::current()) {
  static_assert(sizeof(T) == 2, "matrices of 16-bit numbers");
  emu::load_matrices(to, row.storage(), row.at(), true, where);
}

inline void mma_m16n8k16_bf16(float (&d)[4],
                              const uint32_t (&a)[4],
                              const uint32_t (&b)[2],
                              emu::Where where = emu::Where::current()) {
  emu::multiply(emu::Operand::kBF16, d, a, b, where);
}

inline void mma_m16n8k16_f16(float (&d)[4],
                             const uint32_t (&a)[4],
                             const uint32_t (&b)[2],
                             emu::Where where = emu::Where::current()) {
  emu::multiply(emu::Operand::kF16, d, a, b, where);
}

inline void mma_m16n8k8_tf32(float (&d)[4],
                             const uint32_t (&a)[4],
                             const uint32_t (&b)[2],
                             emu::Where where = emu::Where::current()) {
  emu::multiply(emu::Operand::kTF32, d, a, b, where);
}

uint32_t to_tf32(float x);
uint32_t mul_bf16x2(uint32_t a, uint32_t b);
uint32_t mul_f16x2(uint32_t a, uint32_t b);
uint32_t sign_mask_x2(uint32_t x);
uint32_t where_positive_bf16x2(uint32_t x, uint32_t above, uint32_t below);
uint32_t where_positive_f16x2(uint32_t x, uint32_t above, uint32_t below);

}  // namespace digan
