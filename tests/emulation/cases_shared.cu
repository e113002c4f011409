// Shared memory that the launch sizes, and views of it as numbers of several types.

#include "cases.h"
#include "ptx.cuh"

namespace cases {
namespace {

using digan::bf16;
using digan::Global;
using digan::load16;
using digan::Shared;
using digan::store16;
using digan::view_as;
using emu::SharedUse;

// Reversed through memory for `count` words.
__global__ void sized_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  DIGAN_SHARED_DYNAMIC(uint32_t, memory);
  const int i = static_cast<int>(threadIdx.x);
  const int64_t at = static_cast<int64_t>(blockIdx.x) * count + i;
  if (i < count) {
    memory[i] = in[at];
  }
  __syncthreads();
  if (i < count) {
    out[at] = memory[count - 1 - i];
  }
}

// Only the first block writes: the second finds poison, not what the first left.
__global__ void poisoned_kernel(Global<const uint32_t> in, Global<uint32_t> out, int) {
  DIGAN_SHARED_DYNAMIC(uint32_t, memory);
  const int i = static_cast<int>(threadIdx.x);
  if (blockIdx.x == 0) {
    memory[i] = in[i];
  }
  out[blockIdx.x * blockDim.x + i] = memory[i];
}

// Touches word `count` of the launch's memory beside an array of kKilobytes.
template <int kKilobytes>
__global__ void beside_array_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  DIGAN_SHARED(uint32_t, tile, 256 * kKilobytes);
  DIGAN_SHARED_DYNAMIC(uint32_t, memory);
  tile[256 * kKilobytes - 1] = in[0];
  memory[count] = in[1];
  out[0] = tile[256 * kKilobytes - 1];
  out[1] = memory[count];
}

// Words as 16-bit halves, then as 8 bytes, then 16 at a time; all of one piece of memory.
__global__ void views_kernel(Global<const uint32_t> in, Global<uint32_t> out, int) {
  DIGAN_SHARED_DYNAMIC(bf16, halves);
  const Shared<uint32_t> words = view_as<uint32_t>(halves);
  const Shared<const double> wide = view_as<const double>(words);
  const int i = static_cast<int>(threadIdx.x);
  halves[2 * i] = bf16{static_cast<uint16_t>(in[i])};
  view_as<uint16_t>(words + i)[1] = static_cast<uint16_t>(in[i] >> 16);
  __syncwarp();
  out[i] = words[31 - i];
  const uint64_t bits = emulated_bits<uint64_t>(wide[i / 2]);
  out[32 + i] = static_cast<uint32_t>(bits >> 32 * (i % 2));
  out[64 + i] = load16(words + i / 4 * 4).v[i % 4];
}

// Thread i writes word i, and then a half of its neighbour's.
template <bool kAcrossWarps, bool kBarrier>
__global__ void two_views_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  DIGAN_SHARED_DYNAMIC(uint32_t, memory);
  const int i = static_cast<int>(threadIdx.x);
  memory[i] = in[i];
  __syncthreads();
  const uint32_t mine = memory[i];
  if (kBarrier) {
    __syncthreads();
  }
  const int other = (i + (kAcrossWarps ? 32 : 1)) % count;
  view_as<uint16_t>(memory)[2 * other] = static_cast<uint16_t>(mine);
  __syncthreads();
  out[i] = memory[i];
}

// The halves of one word belong to two threads, which is no race.
__global__ void halves_kernel(Global<const uint32_t> in, Global<uint32_t> out, int) {
  DIGAN_SHARED_DYNAMIC(uint16_t, halves);
  const int i = static_cast<int>(threadIdx.x);
  halves[2 * (31 - i)] = static_cast<uint16_t>(in[i]);
  halves[2 * i + 1] = static_cast<uint16_t>(in[i] >> 16);
  __syncwarp();
  out[i] = view_as<uint32_t>(halves)[i];
}

enum class Misaligned { kWord, kLoad16, kStore16, kMatrix, kCopy };

template <Misaligned kWhat>
__global__ void misaligned_shared_kernel(Global<const uint32_t> in, Global<uint32_t> out, int) {
  DIGAN_SHARED_DYNAMIC(uint16_t, halves);
  const Shared<uint16_t> odd = halves + 1;
  if (kWhat == Misaligned::kWord) {
    view_as<uint32_t>(odd)[0] = in[0];
  } else if (kWhat == Misaligned::kLoad16) {
    out[0] = load16(odd).v[0];
  } else if (kWhat == Misaligned::kStore16) {
    store16(odd, digan::Vec16<uint16_t>());
  } else if (kWhat == Misaligned::kMatrix) {
    uint32_t found[4];
    digan::ldmatrix_x4(found, odd);
  } else {
    digan::cp_async_16(view_as<uint32_t>(odd), in);
  }
}

// A copy of kBytes-wide numbers, read with or without waiting for it.
template <class T, bool kWait>
__global__ void copied_kernel(Global<const uint32_t> in, Global<uint32_t> out, int) {
  DIGAN_SHARED_DYNAMIC(T, memory);
  const int i = static_cast<int>(threadIdx.x);
  const Global<const T> from(reinterpret_cast<const T*>((in + 4 * i).raw()), in.region());
  digan::cp_async_16(memory + i * static_cast<int>(16 / sizeof(T)), from);
  digan::cp_async_commit();
  if (kWait) {
    digan::cp_async_wait<0>();
  }
  for (int k = 0; k < 4; ++k) {
    out[4 * i + k] = view_as<uint32_t>(memory)[4 * i + k];
  }
}

// One kind of access whose lanes' rows of 16 bytes lie `count` bytes apart, the others one after
// another: cp.async, ldmatrix, and reads by single threads.
template <SharedUse kUse>
__global__ void strided_kinds_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  DIGAN_SHARED_DYNAMIC(uint32_t, memory);
  const int i = static_cast<int>(threadIdx.x);
  const Shared<uint32_t> mine = memory + i * count / 4;
  if (kUse == SharedUse::kWrite) {
    digan::cp_async_16(mine, in + 4 * i, i % 2 == 0);
  } else {
    digan::cp_async_16(memory + 4 * i, in + 4 * i);
  }
  digan::cp_async_commit();
  digan::cp_async_wait<0>();
  __syncwarp();
  uint32_t found[4] = {};
  if (kUse == SharedUse::kMatrixRead) {
    digan::ldmatrix_x4(found, memory + i * count / 4 % 128);
  } else if (kUse == SharedUse::kRead) {
    found[0] = memory[i * count / 4 % 128];
  }
  out[i] = found[0];
}

// An array of words has no halves that could be watched.
__global__ void halves_of_an_array_kernel(Global<const uint32_t> in, Global<uint32_t>, int) {
  DIGAN_SHARED(uint32_t, tile, 32);
  view_as<uint16_t>(tile)[0] = static_cast<uint16_t>(in[0]);
}

}  // namespace

void add_shared_cases(Table& table) {
  table["sized"] = sized_kernel;
  table["poisoned"] = poisoned_kernel;
  table["beside_4_kilobytes"] = beside_array_kernel<4>;
  table["beside_48_kilobytes"] = beside_array_kernel<48>;
  table["beside_49_kilobytes"] = beside_array_kernel<49>;
  table["views"] = views_kernel;
  table["two_views"] = two_views_kernel<true, true>;
  table["two_views_of_a_warp_unordered"] = two_views_kernel<false, false>;
  table["two_views_unordered"] = two_views_kernel<true, false>;
  table["halves"] = halves_kernel;
  table["misaligned_word"] = misaligned_shared_kernel<Misaligned::kWord>;
  table["misaligned_load16"] = misaligned_shared_kernel<Misaligned::kLoad16>;
  table["misaligned_store16"] = misaligned_shared_kernel<Misaligned::kStore16>;
  table["misaligned_matrix"] = misaligned_shared_kernel<Misaligned::kMatrix>;
  table["misaligned_copy"] = misaligned_shared_kernel<Misaligned::kCopy>;
  table["copied_2"] = copied_kernel<bf16, true>;
  table["copied_4"] = copied_kernel<float, true>;
  table["copied_8"] = copied_kernel<double, true>;
  table["copied_unwaited"] = copied_kernel<float, false>;
  table["strided_copies"] = strided_kinds_kernel<SharedUse::kWrite>;
  table["strided_matrices"] = strided_kinds_kernel<SharedUse::kMatrixRead>;
  table["strided_reads"] = strided_kinds_kernel<SharedUse::kRead>;
  table["halves_of_an_array"] = halves_of_an_array_kernel;
}

}  // namespace cases
