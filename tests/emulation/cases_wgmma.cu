// wgmma on one warpgroup, or several, and what is wrong with some.

#include "cases.h"
#include "gemm/hopper/barrier.cuh"
#include "gemm/hopper/wgmma.cuh"

namespace cases {
namespace {

using digan::bf16;
using digan::f16;
using digan::Global;
using digan::Shared;
using digan::view_as;
using namespace digan::gemm::hopper;

constexpr int kGroup = 128;
// Words before the image of shared memory: the descriptors of A and B, whether D is added to, how
// many products, and how many bytes both descriptors move from one to the next.
constexpr int kHead = 8;

__device__ uint64_t two_words(Global<const uint32_t> in) {
  return in[0] | static_cast<uint64_t>(in[1]) << 32;
}

// Shared memory as the words say, to be read by wgmma behind a barrier.
__device__ void fill(Shared<uint32_t> memory,
                     Global<const uint32_t> words,
                     int count,
                     bool fences = true) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) {
    memory[i] = words[i];
  }
  if (fences) {
    digan::fence_proxy_async();
  }
}

// Registers from the words behind the image, and to the result.
template <class R, int N>
__device__ void load(R (&to)[N], Global<const uint32_t> words) {
  for (int i = 0; i < N; ++i) {
    const uint32_t word = words[static_cast<int>(threadIdx.x) * N + i];
    to[i] = emulated_bits<R>(word);
  }
}

template <int N>
__device__ void store(const float (&from)[N], Global<uint32_t> out) {
  for (int i = 0; i < N; ++i) {
    out[static_cast<int>(threadIdx.x) * N + i] = __float_as_uint(from[i]);
  }
}

// in: the head, `count` words of shared memory, D of each thread.
template <class T, int N, Major kA, Major kB>
__global__ void product_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  DIGAN_SHARED_DYNAMIC(uint32_t, memory);
  fill(memory, in + kHead, count);
  float d[N / 2];
  load(d, in + (kHead + count));
  __syncthreads();
  wgmma_fence(d);
  for (uint32_t i = 0; i < in[5]; ++i) {
    wgmma<T, kA, kB>(d, two_words(in) + further(i * in[6]), two_words(in + 2) + further(i * in[7]),
                     in[4] + i > 0);
  }
  wgmma_commit();
  wgmma_wait<0>(d);
  store(d, out);
}

// With A in registers, whose words stand behind those of D.
template <class T, int N, Major kB>
__global__ void rows_product_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  DIGAN_SHARED_DYNAMIC(uint32_t, memory);
  fill(memory, in + kHead, count);
  float d[N / 2];
  load(d, in + (kHead + count));
  uint32_t a[4];
  load(a, in + (kHead + count + kGroup * N / 2));
  __syncthreads();
  wgmma_fence(d, a);
  wgmma<T, kB>(d, a, two_words(in + 2), in[4] > 0);
  wgmma_commit();
  wgmma_wait<0>(d, a);
  store(d, out);
}

// The bits that kernels make: addresses in, two words a descriptor out.
__global__ void descriptors_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < count) {
    const uint64_t made[] = {reduced_rows(in[i]), reduced_rows<64>(in[i]), reduced_rows<32>(in[i]),
                             kept_rows(in[i], 8192)};
    for (int k = 0; k < 4; ++k) {
      out[8 * i + 2 * k] = static_cast<uint32_t>(made[k]);
      out[8 * i + 2 * k + 1] = static_cast<uint32_t>(made[k] >> 32);
    }
  }
}

__global__ void address_kernel(Global<const uint32_t>, Global<uint32_t> out, int) {
  DIGAN_SHARED_DYNAMIC(uint32_t, memory);
  if (threadIdx.x == 0) {
    out[0] = digan::shared_address(memory + 5);
  }
}

__global__ void static_address_kernel(Global<const uint32_t>, Global<uint32_t> out, int) {
  DIGAN_SHARED(uint32_t, memory, 8);
  out[0] = digan::shared_address(memory);
}

// ---------------------------------------------------------------- what is wrong

enum class Wrong {
  kNothing,
  kNoFence,        // at all
  kFenceTooEarly,  // accumulators change behind it
  kUnfencedA,
  kNoWait,
  kNoCommit,
  kWaitForTooFew,
  kReadBeforeWait,
  kSumsTouched,
  kATouched,
  kMemoryWritten,
  kMemoryWrittenAfterwards,  // which is right
  kOtherProducts,
  kOneWarpLess,
  kOtherLane,
  kUnordered,  // memory that another thread wrote
  kNobodyWrote,
  kNoProxyFence,
  kStrangeBits,
};

// A and B: 64 rows of 128 bytes, behind one another. Two groups of products.
template <Wrong kWrong>
__global__ void wrong_kernel(Global<const uint32_t> in, Global<uint32_t> out, int count) {
  DIGAN_SHARED_DYNAMIC(uint32_t, memory);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  fill(memory, in, kWrong == Wrong::kNobodyWrote ? count - 1 : count,
       kWrong != Wrong::kNoProxyFence);
  float d[32];
  uint32_t rows[4] = {1, 2, 3, 4};
  for (int i = 0; i < 32; ++i) {
    d[i] = static_cast<float>(i);
  }
  if (kWrong != Wrong::kUnordered) {
    __syncthreads();
  }
  const uint32_t address = digan::shared_address(memory);
  const uint64_t a = reduced_rows(address), b = reduced_rows(address + 64 * 128);
  if (kWrong == Wrong::kUnfencedA) {
    wgmma_fence(d);
  } else if (kWrong != Wrong::kNoFence) {
    wgmma_fence(d, rows);
  }
  if (kWrong == Wrong::kFenceTooEarly) {
    d[3] += 1;
  }
  const bool other = (kWrong == Wrong::kOtherProducts && warp == 2) ||
                     (kWrong == Wrong::kOtherLane && thread == 70);
  if (kWrong != Wrong::kOneWarpLess || warp != 3) {
    wgmma<bf16, Major::kReduced, Major::kReduced>(d, a + (other ? further(32) : 0), b);
  }
  wgmma_commit();
  wgmma<bf16, Major::kReduced>(
      d, rows, kWrong == Wrong::kStrangeBits ? b | uint64_t{1} << 46 : b + further(32));
  if (kWrong != Wrong::kNoCommit) {
    wgmma_commit();
  }
  if (kWrong == Wrong::kSumsTouched) {
    d[7] = 0;
  }
  if (kWrong == Wrong::kATouched) {
    rows[1] = 5;
  }
  if (kWrong == Wrong::kReadBeforeWait) {
    rows[0] = d[0] > 0 ? 1 : 1;
    out[thread] = __float_as_uint(d[0]);
  }
  if (kWrong == Wrong::kMemoryWritten && thread == 0) {
    memory[0] = 7;
  }
  if (kWrong == Wrong::kWaitForTooFew) {
    wgmma_wait<1>(d);
  } else if (kWrong != Wrong::kNoWait) {
    wgmma_wait<0>(d, rows);
  }
  if (kWrong == Wrong::kMemoryWrittenAfterwards) {
    __syncthreads();
    memory[thread] = 7;
  }
  if (kWrong != Wrong::kReadBeforeWait) {
    out[thread] = __float_as_uint(d[0]);
  }
  if (kWrong == Wrong::kWaitForTooFew) {
    wgmma_wait<0>(d);
  }
}

template <class T, int N>
void add_products(Table& table, const std::string& name) {
  table["wgmma_" + name + "_reduced_reduced"] =
      product_kernel<T, N, Major::kReduced, Major::kReduced>;
  table["wgmma_" + name + "_reduced_kept"] = product_kernel<T, N, Major::kReduced, Major::kKept>;
  table["wgmma_" + name + "_kept_reduced"] = product_kernel<T, N, Major::kKept, Major::kReduced>;
  table["wgmma_" + name + "_kept_kept"] = product_kernel<T, N, Major::kKept, Major::kKept>;
  table["wgmma_" + name + "_rows_reduced"] = rows_product_kernel<T, N, Major::kReduced>;
  table["wgmma_" + name + "_rows_kept"] = rows_product_kernel<T, N, Major::kKept>;
}

}  // namespace

void add_wgmma_cases(Table& table) {
  add_products<bf16, 64>(table, "bf16_64");
  add_products<bf16, 128>(table, "bf16_128");
  add_products<bf16, 256>(table, "bf16_256");
  add_products<f16, 256>(table, "f16_256");
  table["wgmma_descriptors"] = descriptors_kernel;
  table["wgmma_address"] = address_kernel;
  table["wgmma_static_address"] = static_address_kernel;
  table["wgmma_right"] = wrong_kernel<Wrong::kNothing>;
  table["wgmma_no_fence"] = wrong_kernel<Wrong::kNoFence>;
  table["wgmma_fence_too_early"] = wrong_kernel<Wrong::kFenceTooEarly>;
  table["wgmma_unfenced_a"] = wrong_kernel<Wrong::kUnfencedA>;
  table["wgmma_no_wait"] = wrong_kernel<Wrong::kNoWait>;
  table["wgmma_no_commit"] = wrong_kernel<Wrong::kNoCommit>;
  table["wgmma_wait_for_too_few"] = wrong_kernel<Wrong::kWaitForTooFew>;
  table["wgmma_read_before_wait"] = wrong_kernel<Wrong::kReadBeforeWait>;
  table["wgmma_sums_touched"] = wrong_kernel<Wrong::kSumsTouched>;
  table["wgmma_a_touched"] = wrong_kernel<Wrong::kATouched>;
  table["wgmma_memory_written"] = wrong_kernel<Wrong::kMemoryWritten>;
  table["wgmma_memory_written_afterwards"] = wrong_kernel<Wrong::kMemoryWrittenAfterwards>;
  table["wgmma_other_products"] = wrong_kernel<Wrong::kOtherProducts>;
  table["wgmma_one_warp_less"] = wrong_kernel<Wrong::kOneWarpLess>;
  table["wgmma_other_lane"] = wrong_kernel<Wrong::kOtherLane>;
  table["wgmma_unordered"] = wrong_kernel<Wrong::kUnordered>;
  table["wgmma_nobody_wrote"] = wrong_kernel<Wrong::kNobodyWrote>;
  table["wgmma_no_proxy_fence"] = wrong_kernel<Wrong::kNoProxyFence>;
  table["wgmma_strange_bits"] = wrong_kernel<Wrong::kStrangeBits>;
}

}  // namespace cases
