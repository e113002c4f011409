// ldmatrix and mma on one warp.

#include "cases.h"
#include "ptx.cuh"

namespace cases {
namespace {

using digan::bf16;
using digan::f16;
using digan::Global;
using digan::ldmatrix_x4;
using digan::ldmatrix_x4_trans;
using digan::Shared;
using digan::view_as;

// 32 rows of 8 numbers of 16 bits, two in a word; every register of every lane comes out.
template <bool kTransposed, bool kSync>
__global__ void ldmatrix_kernel(Global<const uint32_t> in, Global<uint32_t> out, int) {
  DIGAN_SHARED(bf16, rows, 32 * 8);
  const int lane = static_cast<int>(threadIdx.x);
  for (int first = lane; first < 128; first += 32) {
    const int i = (first + 5) % 128;  // another lane's
    const uint32_t word = in[i];
    rows[2 * i] = bf16{static_cast<uint16_t>(word)};
    rows[2 * i + 1] = bf16{static_cast<uint16_t>(word >> 16)};
  }
  if (kSync) {
    __syncwarp();
  }
  uint32_t found[4];
  if (kTransposed) {
    ldmatrix_x4_trans(found, rows + 8 * lane);
  } else {
    ldmatrix_x4(found, rows + 8 * lane);
  }
  for (int i = 0; i < 4; ++i) {
    out[4 * lane + i] = found[i];
  }
}

__global__ void ldmatrix_misaligned_kernel(Global<const uint32_t>, Global<uint32_t>, int) {
  DIGAN_SHARED(bf16, rows, 32 * 8 + 8);
  uint32_t found[4];
  ldmatrix_x4(found, rows + 8 * static_cast<int>(threadIdx.x) + 4);
}

// in: D [16, 8] as float bits, then a[4] and b[2] of each lane; out: D of each lane's fragment.
template <int kType>
__global__ void mma_kernel(Global<const uint32_t> in, Global<uint32_t> out, int) {
  const int lane = static_cast<int>(threadIdx.x);
  uint32_t a[4], b[2];
  float d[4];
  for (int i = 0; i < 4; ++i) {
    d[i] = __uint_as_float(in[4 * lane + i]);
    a[i] = in[128 + 4 * lane + i];
  }
  for (int i = 0; i < 2; ++i) {
    b[i] = in[256 + 2 * lane + i];
  }
  if (kType == 0) {
    digan::mma_m16n8k16_bf16(d, a, b);
  } else if (kType == 1) {
    digan::mma_m16n8k16_f16(d, a, b);
  } else {
    digan::mma_m16n8k8_tf32(d, a, b);
  }
  for (int i = 0; i < 4; ++i) {
    out[4 * lane + i] = __float_as_uint(d[i]);
  }
}

__global__ void to_tf32_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) {
    out[i] = digan::to_tf32(__uint_as_float(in[i]));
  }
}

// A product of bfloat16 matrices as a kernel does it: in holds A [16, 16] by rows, then B
// [8, 16], the columns of B as rows, two numbers a word; out is D [16, 8].
__global__ void small_product_kernel(Global<const uint32_t> in, Global<uint32_t> out, int) {
  DIGAN_SHARED(bf16, a_tile, 16 * 16);
  DIGAN_SHARED(bf16, b_tile, 16 * 16);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 128; i += 32) {
    a_tile[2 * i] = bf16{static_cast<uint16_t>(in[i])};
    a_tile[2 * i + 1] = bf16{static_cast<uint16_t>(in[i] >> 16)};
    const uint32_t word = i < 64 ? in[128 + i] : 0;
    b_tile[2 * i] = bf16{static_cast<uint16_t>(word)};
    b_tile[2 * i + 1] = bf16{static_cast<uint16_t>(word >> 16)};
  }
  __syncwarp();
  uint32_t a[4], columns[4];
  ldmatrix_x4(a, a_tile + (lane % 16 * 16 + lane / 16 * 8));
  ldmatrix_x4(columns, b_tile + (lane % 8 * 16 + lane / 8 % 2 * 8));
  const uint32_t b[2] = {columns[0], columns[1]};
  float d[4] = {0, 0, 0, 0};
  digan::mma_m16n8k16_bf16(d, a, b);
  for (int i = 0; i < 4; ++i) {
    out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = __float_as_uint(d[i]);
  }
}

// 32 rows of 4 words through ldmatrix.
template <bool kSync>
__global__ void ldmatrix_words_kernel(Global<const uint32_t> in, Global<uint32_t> out, int) {
  DIGAN_SHARED(float, rows, 32 * 4);
  const int lane = static_cast<int>(threadIdx.x);
  for (int first = lane; first < 128; first += 32) {
    const int i = (first + 5) % 128;  // another lane's
    rows[i] = __uint_as_float(in[i]);
  }
  if (kSync) {
    __syncwarp();
  }
  uint32_t found[4];
  ldmatrix_x4(found, rows + 4 * lane);
  for (int i = 0; i < 4; ++i) {
    out[4 * lane + i] = found[i];
  }
}

// The same of float32 matrices on TF32 tensor cores: A [16, 8] by rows, then the columns of B
// as rows [8, 8]; rows are 16 bytes further apart than they need.
__global__ void small_product_tf32_kernel(Global<const uint32_t> in, Global<uint32_t> out, int) {
  DIGAN_SHARED_DYNAMIC(bf16, memory);
  const Shared<float> a_tile = view_as<float>(memory);
  const Shared<float> b_tile = a_tile + 16 * 12;
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 192; i += 32) {
    a_tile[i / 8 * 12 + i % 8] = __uint_as_float(in[i]);
  }
  __syncwarp();
  uint32_t a[4], columns[4];
  ldmatrix_x4(a, a_tile + (lane % 16 * 12 + lane / 16 * 4));
  ldmatrix_x4(columns, b_tile + (lane % 8 * 12 + lane / 8 % 2 * 4));
  for (int i = 0; i < 4; ++i) {
    a[i] = digan::to_tf32(__uint_as_float(a[i]));
  }
  const uint32_t b[2] = {digan::to_tf32(__uint_as_float(columns[0])),
                         digan::to_tf32(__uint_as_float(columns[1]))};
  float d[4] = {0, 0, 0, 0};
  digan::mma_m16n8k8_tf32(d, a, b);
  for (int i = 0; i < 4; ++i) {
    out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = __float_as_uint(d[i]);
  }
}

// Words `i` and `count + i` as two numbers each: the products in both types, the first's signs,
// and in both types what is chosen where the first is positive: of the second's halves, the lower.
__global__ void packed_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) {
    out[i] = digan::mul_bf16x2(in[i], in[count + i]);
    out[count + i] = digan::mul_f16x2(in[i], in[count + i]);
    out[2 * count + i] = digan::sign_mask_x2(in[i]);
    const uint32_t above = (in[count + i] & 0xffff) * 0x00010001u;
    const uint32_t below = (in[count + i] >> 16) * 0x00010001u;
    out[3 * count + i] = digan::where_positive_bf16x2(in[i], above, below);
    out[4 * count + i] = digan::where_positive_f16x2(in[i], above, below);
  }
}

// Every word as a float, rounded to bfloat16 (low half) and float16 (high half).
__global__ void round_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) {
    const float x = __uint_as_float(in[i]);
    const uint32_t high = __float2half_rn(x).bits;
    out[i] = __float2bfloat16_rn(x).bits | high << 16;
  }
}

// Every low half as a number of 16 bits, widened: bfloat16, then float16.
__global__ void widen_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) {
    const auto bits = static_cast<uint16_t>(in[i]);
    out[i] = __float_as_uint(__bfloat162float(bf16{bits}));
    out[count + i] = __float_as_uint(__half2float(f16{bits}));
  }
}

}  // namespace

void add_tensor_cases(Table& table) {
  table["ldmatrix"] = ldmatrix_kernel<false, true>;
  table["ldmatrix_trans"] = ldmatrix_kernel<true, true>;
  table["ldmatrix_unordered"] = ldmatrix_kernel<false, false>;
  table["ldmatrix_words"] = ldmatrix_words_kernel<true>;
  table["ldmatrix_words_unordered"] = ldmatrix_words_kernel<false>;
  table["ldmatrix_misaligned"] = ldmatrix_misaligned_kernel;
  table["mma_bf16"] = mma_kernel<0>;
  table["mma_f16"] = mma_kernel<1>;
  table["mma_tf32"] = mma_kernel<2>;
  table["to_tf32"] = to_tf32_kernel;
  table["small_product"] = small_product_kernel;
  table["small_product_tf32"] = small_product_tf32_kernel;
  table["packed"] = packed_kernel;
  table["round"] = round_kernel;
  table["widen"] = widen_kernel;
}

}  // namespace cases
