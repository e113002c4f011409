#include "gemm/hopper/wgmma.cuh"

#include <cstring>
#include <vector>

#include "counters.h"
#include "fault.h"
#include "float16.h"

namespace emu {

bool hopper_asked = false;

namespace {

constexpr unsigned kWholeWarp = 0xffffffffu;
constexpr int kDepth = 16;  // of the reduced axis
constexpr int kRows = 16;   // of A, of a warp
constexpr int kMostColumns = 256;
constexpr int kChunk = 16;  // bytes, 8 numbers
constexpr uint32_t kPoison = 0xffffffffu;

// ---------------------------------------------------------------- descriptors

// The bits of a matrix descriptor. Distances are in bytes.
struct Matrix {
  uint32_t start, leading, stride, phase;
  int swizzle;  // bytes of a row, 16 without one
  bool kept;    // the kept axis along the rows

  Matrix(uint64_t bits, bool kept)
      : start(field(bits, 0, 14) << 4),
        leading(field(bits, 16, 14) << 4),
        stride(field(bits, 32, 14) << 4),
        phase(field(bits, 49, 3)),
        kept(kept) {
    constexpr uint64_t kUnused = 3ull << 14 | 3ull << 30 | 7ull << 46 | 0x3ffull << 52;
    if ((bits & kUnused) != 0) {
      fail("a matrix descriptor has bits where no field is: 0x", std::hex, bits);
    }
    constexpr int kBytes[] = {16, 128, 64, 32};
    swizzle = kBytes[bits >> 62];
  }

  static uint32_t field(uint64_t bits, int first, int count) {
    return static_cast<uint32_t>(bits >> first & ((1ull << count) - 1));
  }

  // The address of the chunk of 8 numbers that begins at place `i` of the kept axis, `k` of the
  // reduced one. A row is `swizzle` bytes along one of the axes.
  uint32_t chunk(int i, int k) const {
    const auto along = static_cast<uint32_t>(2 * (kept ? i : k));
    const auto across = static_cast<uint32_t>(kept ? k : i);
    const auto row = static_cast<uint32_t>(swizzle);
    if (swizzle == kChunk) {
      // Blocks of 8 rows of 16 bytes: the leading distance is that of blocks along the reduced
      // axis, the other along the kept one.
      return start + across % 8 * row + across / 8 * (kept ? leading : stride) +
             along / row * (kept ? stride : leading);
    }
    const uint32_t address =
        start + along % row + along / row * leading + across % 8 * row + across / 8 * stride;
    // Chunks of an address change places by its bits from 7 on.
    const uint32_t turn = ((address >> 7) - phase) & (row / kChunk - 1);
    return address ^ turn << 4;
  }
};

// ---------------------------------------------------------------- what is under way

struct Fenced {
  const void* at;
  std::vector<char> bytes;
};

// A product of a warp.
struct Pending {
  GroupProduct product;  // of lane 0
  int group;
  float* d[32];
  const uint32_t* a_at[32];
  uint32_t a[32][4];
  std::vector<float> held;  // D before it, N / 2 numbers of each lane; empty behind another product
};

// What all warps of a warpgroup must issue alike.
struct Issued {
  uint64_t a, b;
  int columns;
  bool adds, in_registers;
  bool operator==(const Issued&) const = default;
};

struct Products {
  int64_t block = 0;
  std::vector<Pending> pending[32];  // of each warp
  int group[32] = {};
  size_t issued[32] = {};
  std::vector<Issued> of_group[8];
  std::vector<Fenced> fenced[1024];  // of each thread
};

Products& state() {
  static Products products;
  if (products.block != block_serial) {
    products = Products();
    products.block = block_serial;
  }
  return products;
}

Fenced* find_fenced(const void* at, size_t bytes) {
  for (Fenced& fenced : state().fenced[self->thread]) {
    if (fenced.at == at && fenced.bytes.size() == bytes) {
      return &fenced;
    }
  }
  return nullptr;
}

void forget_fenced(int thread, const void* at) {
  auto& all = state().fenced[thread];
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].at == at) {
      all.erase(all.begin() + static_cast<int64_t>(i));
      return;
    }
  }
}

void check_fenced(const void* at, size_t bytes, const char* what, const Where& where) {
  const Fenced* fenced = find_fenced(at, bytes);
  if (fenced == nullptr || std::memcmp(fenced->bytes.data(), at, bytes) != 0) {
    fail("wgmma at ", text_of(where), " takes ", what, " that changed without a wgmma_fence");
  }
}

// Calls function(at) for each chunk of shared memory that a warp's part of a product reads.
template <class Function>
void for_each_chunk(const GroupProduct& product, int warp, const Function& function) {
  SharedStorage& storage = launch_shared();
  const auto visit = [&](const Matrix& matrix, int first, int count) {
    const int step_i = matrix.kept ? 8 : 1;
    const int step_k = matrix.kept ? 1 : 8;
    for (int i = first; i < first + count; i += step_i) {
      for (int k = 0; k < kDepth; k += step_k) {
        function(storage, static_cast<int64_t>(matrix.chunk(i, k)) - kDynamicAddress, i - first, k);
      }
    }
  };
  if (product.a_registers == nullptr) {
    visit(Matrix(product.a, product.a_kept), warp % 4 * kRows, kRows);
  }
  visit(Matrix(product.b, product.b_kept), 0, product.columns);
}

// ---------------------------------------------------------------- issue

GroupProduct& product_of(Warp& warp, int lane) {
  return *static_cast<GroupProduct*>(warp.lanes[lane]->operands);
}

void note_issue(Warp& warp, const GroupProduct& product) {
  const Issued mine{product.a, product.b, product.columns, product.adds,
                    product.a_registers != nullptr};
  auto& all = state().of_group[warp.number / 4];
  const size_t number = state().issued[warp.number]++;
  if (number == all.size()) {
    all.push_back(mine);
  } else if (!(all[number] == mine)) {
    fail("the warps of a warpgroup issue different wgmma");
  }
}

void complete_issue(Warp& warp, unsigned) {
  ++counters.group_products;
  const GroupProduct& first = product_of(warp, 0);
  note_issue(warp, first);
  auto& pending = state().pending[warp.number];
  Pending mine;
  mine.product = first;
  mine.group = state().group[warp.number];
  const int count = first.columns / 2;
  bool follows = false;
  for (const Pending& other : pending) {
    follows = follows || other.d[0] == first.d;
  }
  for (int lane = 0; lane < 32; ++lane) {
    const GroupProduct& product = product_of(warp, lane);
    if (product.a != first.a || product.b != first.b || product.adds != first.adds ||
        product.columns != first.columns) {
      fail("the lanes of a warp issue different wgmma");
    }
    mine.d[lane] = product.d;
    mine.a_at[lane] = product.a_registers;
    if (product.a_registers != nullptr) {
      std::memcpy(mine.a[lane], product.a_registers, sizeof(mine.a[lane]));
    }
    if (!follows) {
      mine.held.insert(mine.held.end(), product.d, product.d + count);
      for (int i = 0; i < count; ++i) {
        product.d[i] = float_of(kPoison);
      }
    }
  }
  for_each_chunk(first, warp.number, [](SharedStorage& storage, int64_t at, int, int) {
    check_shared_read(storage, at, kChunk, 0);
    check_async_proxy_read(storage, at, kChunk);
    for (int64_t i = at >> storage.cell_shift; i < (at + kChunk) >> storage.cell_shift; ++i) {
      ++storage.cells[i].products;
    }
  });
  pending.push_back(mine);
}

// ---------------------------------------------------------------- completion

float number_of(Operand type, const char* at) {
  uint16_t bits;
  std::memcpy(&bits, at, sizeof(bits));
  return type == Operand::kBF16 ? __bfloat162float(bf16{bits}) : __half2float(f16{bits});
}

struct Operands {
  float a[kRows][kDepth];
  float b[kDepth][kMostColumns];
};

// The operands of a warp's part, whose shared memory is free again.
void read_operands(const Pending& mine, int warp, Operands& to) {
  const GroupProduct& product = mine.product;
  bool of_a = product.a_registers == nullptr;
  const int chunks_of_a = of_a ? kRows * kDepth / 8 : 0;
  int seen = 0;
  for_each_chunk(product, warp, [&](SharedStorage& storage, int64_t at, int i, int k) {
    of_a = seen++ < chunks_of_a;
    for (int64_t cell = at >> storage.cell_shift; cell < (at + kChunk) >> storage.cell_shift;
         ++cell) {
      --storage.cells[cell].products;
    }
    check_shared_read(storage, at, kChunk, 0);
    const bool kept = of_a ? product.a_kept : product.b_kept;
    for (int n = 0; n < 8; ++n) {
      const int row = kept ? i + n : i;
      const int depth = kept ? k : k + n;
      (of_a ? to.a[row][depth] : to.b[depth][row]) =
          number_of(product.type, storage.data + at + 2 * n);
    }
  });
  if (product.a_registers == nullptr) {
    return;
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int quarter = 0; quarter < 4; ++quarter) {
      for (int n = 0; n < 2; ++n) {
        const auto half = static_cast<uint16_t>(mine.a[lane][quarter] >> (16 * n));
        to.a[lane / 4 + 8 * (quarter % 2)][2 * (lane % 4) + n + 8 * (quarter / 2)] =
            product.type == Operand::kBF16 ? __bfloat162float(bf16{half}) : __half2float(f16{half});
      }
    }
  }
}

void check_registers_kept(const Pending& mine) {
  for (int lane = 0; lane < 32; ++lane) {
    if (mine.a_at[lane] != nullptr &&
        std::memcmp(mine.a_at[lane], mine.a[lane], sizeof(mine.a[lane])) != 0) {
      fail("registers of A changed before the wgmma that reads them was waited for");
    }
    for (int i = 0; i < mine.product.columns / 2; ++i) {
      if (bits_of(mine.d[lane][i]) != kPoison) {
        fail("accumulators changed before the wgmma that adds to them was waited for");
      }
    }
  }
}

// Finishes a product; `later` are those that follow.
void finish(Pending& mine, Warp& warp, std::vector<Pending>& all, size_t number) {
  static Operands operands;
  read_operands(mine, warp.number, operands);
  const int count = mine.product.columns / 2;
  for (int lane = 0; lane < 32; ++lane) {
    float* held = mine.held.data() + static_cast<size_t>(lane) * count;
    for (int i = 0; i < count; ++i) {
      const int row = lane / 4 + i % 4 / 2 * 8;
      const int column = i / 4 * 8 + 2 * (lane % 4) + i % 2;
      float sum = mine.product.adds ? held[i] : 0.0f;
      for (int k = 0; k < kDepth; ++k) {
        sum += operands.a[row][k] * operands.b[k][column];
      }
      held[i] = sum;
    }
  }
  for (size_t later = number + 1; later < all.size(); ++later) {
    if (all[later].d[0] == mine.d[0]) {
      all[later].held = std::move(mine.held);
      return;
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    std::memcpy(mine.d[lane], mine.held.data() + static_cast<size_t>(lane) * count,
                sizeof(float) * static_cast<size_t>(count));
    forget_fenced(warp.lanes[lane]->thread, mine.d[lane]);
  }
}

void complete_wait(Warp& warp, unsigned) {
  auto& all = state().pending[warp.number];
  const int newest = state().group[warp.number] - *static_cast<int*>(warp.lanes[0]->operands);
  size_t done = 0;
  for (; done < all.size() && all[done].group < newest; ++done) {
    check_registers_kept(all[done]);
  }
  for (size_t i = 0; i < done; ++i) {
    finish(all[i], warp, all, i);
  }
  for (size_t i = 0; i < done; ++i) {
    for (int lane = 0; lane < 32; ++lane) {
      if (all[i].a_at[lane] != nullptr) {
        forget_fenced(warp.lanes[lane]->thread, all[i].a_at[lane]);
      }
    }
  }
  all.erase(all.begin(), all.begin() + static_cast<int64_t>(done));
}

}  // namespace

uint32_t address_of(SharedStorage& storage, int64_t at) {
  if (&storage != &launch_shared()) {
    fail("the address of ", storage.name, ", which is not of the memory that the launch sizes");
  }
  return kDynamicAddress + static_cast<uint32_t>(at);
}

void fence_registers(const void* registers, int bytes) {
  forget_fenced(self->thread, registers);
  const auto* first = static_cast<const char*>(registers);
  state().fenced[self->thread].push_back({registers, {first, first + bytes}});
}

void meet_for_fence(Where where) {
  meet_warp("wgmma.fence", kWholeWarp, [](Warp&, unsigned) {}, nullptr, where);
}

void issue_product(GroupProduct product, Where where) {
  const auto bytes = sizeof(float) * static_cast<size_t>(product.columns / 2);
  bool under_way = false;
  for (const Pending& other : state().pending[self->warp->number]) {
    if (other.d[self->lane] == product.d) {
      under_way = true;
      if (other.product.columns != product.columns) {
        fail("wgmma at ", text_of(where), " of another shape on accumulators under way");
      }
    }
  }
  if (!under_way) {
    check_fenced(product.d, bytes, "accumulators", where);
  }
  if (product.a_registers != nullptr) {
    check_fenced(product.a_registers, 4 * sizeof(uint32_t), "registers of A", where);
  }
  meet_warp("wgmma", kWholeWarp, complete_issue, &product, where);
}

void commit_products(Where where) {
  meet_warp(
      "wgmma.commit_group", kWholeWarp, [](Warp& warp, unsigned) { ++state().group[warp.number]; },
      nullptr, where);
}

void wait_for_products(int pending, Where where) {
  meet_warp("wgmma.wait_group", kWholeWarp, complete_wait, &pending, where);
}

void check_products_ended() {
  Products& all = state();
  for (int warp = 0; warp < 32; ++warp) {
    if (!all.pending[warp].empty()) {
      fail("warp ", warp, " ends before its wgmma was waited for");
    }
    if (all.issued[warp] != all.of_group[warp / 4].size()) {
      fail("warp ", warp, " issued ", all.issued[warp], " wgmma, its warpgroup ",
           all.of_group[warp / 4].size());
    }
  }
}

}  // namespace emu
