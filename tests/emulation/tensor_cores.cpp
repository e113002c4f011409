#include "tensor_cores.h"

#include <cstring>

#include "counters.h"
#include "fault.h"
#include "float16.h"
#include "ptx.cuh"

namespace emu {
namespace {

constexpr unsigned kWholeWarp = 0xffffffffu;

struct Matrices {
  uint32_t* to;
  SharedStorage* storage;
  int64_t at;  // the byte where this lane's row begins
  bool transposed;
};

Matrices& matrices_of(Warp& warp, int lane) {
  return *static_cast<Matrices*>(warp.lanes[lane]->operands);
}

// Whichever lane gets a number is its reader.
void note_readers(const Matrices& row, int number) {
  if (!row.transposed) {
    for (int i = 0; i < 4; ++i) {
      check_shared_read(*row.storage, row.at + 4 * i, 4, 4 * number + i);
    }
    return;
  }
  for (int column = 0; column < 8; ++column) {
    check_shared_read(*row.storage, row.at + 2 * column, 2, 4 * column + number / 2);
  }
}

void complete_matrices(Warp& warp, unsigned) {
  ++counters.warp_exchanges;
  for (int matrix = 0; matrix < 4; ++matrix) {
    char rows[8][16];
    for (int row = 0; row < 8; ++row) {
      const Matrices& source = matrices_of(warp, 8 * matrix + row);
      note_readers(source, row);
      std::memcpy(rows[row], source.storage->data + source.at, 16);
    }
    for (int lane = 0; lane < 32; ++lane) {
      const Matrices& target = matrices_of(warp, lane);
      const int major = lane / 4;
      const int minor = lane % 4;
      uint32_t& to = target.to[matrix];
      if (target.transposed) {
        uint16_t halves[2];
        std::memcpy(&halves[0], rows[2 * minor] + 2 * major, 2);
        std::memcpy(&halves[1], rows[2 * minor + 1] + 2 * major, 2);
        to = halves[0] | static_cast<uint32_t>(halves[1]) << 16;
      } else {
        std::memcpy(&to, rows[major] + 4 * minor, 4);
      }
    }
  }
}

struct Product {
  Operand type;
  float* d;
  const uint32_t* a;
  const uint32_t* b;
};

Product& product_of(Warp& warp, int lane) {
  return *static_cast<Product*>(warp.lanes[lane]->operands);
}

// The number `index` of a register: one of float32, or one of two of 16 bits.
float number_in(Operand type, uint32_t bits, int index) {
  const auto half = static_cast<uint16_t>(bits >> (16 * index));
  switch (type) {
    case Operand::kBF16:
      return __bfloat162float(bf16{half});
    case Operand::kF16:
      return __half2float(f16{half});
    default:
      return float_of(bits & 0xffffe000u);
  }
}

// A is in four 8-row quarters: register 0 top left, 1 bottom left, 2 top right, 3 bottom right.
template <Operand kType>
void complete_product(Warp& warp, unsigned) {
  ++counters.warp_exchanges;
  ++counters.matrix_products;
  constexpr int kNumbers = kType == Operand::kTF32 ? 1 : 2;  // in a register
  constexpr int kHalf = 4 * kNumbers;                        // columns of A in a quarter
  float a[16][2 * kHalf], b[2 * kHalf][8];
  for (int lane = 0; lane < 32; ++lane) {
    const Product& mine = product_of(warp, lane);
    const int group = lane / 4;
    for (int i = 0; i < kNumbers; ++i) {
      const int k = lane % 4 * kNumbers + i;
      for (int quarter = 0; quarter < 4; ++quarter) {
        a[group + 8 * (quarter % 2)][k + kHalf * (quarter / 2)] =
            number_in(kType, mine.a[quarter], i);
      }
      for (int half = 0; half < 2; ++half) {
        b[k + kHalf * half][group] = number_in(kType, mine.b[half], i);
      }
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const Product& mine = product_of(warp, lane);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2);
      const int column = 2 * (lane % 4) + i % 2;
      float sum = mine.d[i];
      for (int k = 0; k < 2 * kHalf; ++k) {
        sum += a[row][k] * b[k][column];
      }
      mine.d[i] = sum;
    }
  }
}

}  // namespace

void load_matrices(
    uint32_t (&to)[4], SharedStorage& storage, int64_t at, bool transposed, Where where) {
  Matrices mine{to, &storage, at, transposed};
  check_shared_alignment(storage, at, 16);
  // Its 8 rows of a matrix are one pass, as 8 lanes of a 16-byte access are.
  count_shared(storage, at, 16, SharedUse::kMatrixRead);
  meet_warp(transposed ? "ldmatrix.trans" : "ldmatrix", kWholeWarp, complete_matrices, &mine,
            where);
}

void multiply(
    Operand type, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where) {
  Product mine{type, d, a, b};
  const Complete complete = type == Operand::kBF16  ? complete_product<Operand::kBF16>
                            : type == Operand::kF16 ? complete_product<Operand::kF16>
                                                    : complete_product<Operand::kTF32>;
  meet_warp("mma", kWholeWarp, complete, &mine, where);
}

// A product in float32 is exact, or too small for the bits that it lacks to matter.
template <class T>
uint32_t packed_product(uint32_t a, uint32_t b, float (*widen)(T), T (*narrow)(float)) {
  uint32_t result = 0;
  for (int shift = 0; shift < 32; shift += 16) {
    const T left{static_cast<uint16_t>(a >> shift)};
    const T right{static_cast<uint16_t>(b >> shift)};
    result |= static_cast<uint32_t>(narrow(widen(left) * widen(right)).bits) << shift;
  }
  return result;
}

// 1 in each half that is greater than zero.
template <class T>
uint32_t positive(uint32_t x, float (*widen)(T)) {
  uint32_t ones = 0;
  for (const int shift : {0, 16}) {
    ones |= widen(T{static_cast<uint16_t>(x >> shift)}) > 0 ? 1u << shift : 0;
  }
  return ones;
}

}  // namespace emu

uint32_t digan::to_tf32(float x) {
  const uint32_t bits = emu::bits_of(x);
  if ((bits & 0x7f800000u) == 0x7f800000u) {
    return bits;  // infinity and NaN
  }
  return (bits + 0x1000u) & 0xffffe000u;
}

uint32_t digan::mul_bf16x2(uint32_t a, uint32_t b) {
  return emu::packed_product<emu::bf16>(a, b, __bfloat162float, __float2bfloat16_rn);
}

uint32_t digan::mul_f16x2(uint32_t a, uint32_t b) {
  return emu::packed_product<emu::f16>(a, b, __half2float, __float2half_rn);
}

uint32_t digan::sign_mask_x2(uint32_t x) {
  return ((x >> 15 & 1u) * 0x0000ffffu) | ((x >> 31) * 0xffff0000u);
}

uint32_t digan::where_positive_bf16x2(uint32_t x, uint32_t above, uint32_t below) {
  return digan::choose_x2(emu::positive<emu::bf16>(x, __bfloat162float), above, below);
}

uint32_t digan::where_positive_f16x2(uint32_t x, uint32_t above, uint32_t below) {
  const uint32_t mask = emu::positive<emu::f16>(x, __half2float) * 0xffffu;
  return (above & mask) | (below & ~mask);
}
