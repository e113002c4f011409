// mbarriers, named barriers and registers of warpgroups: see csrc/gemm/hopper/barrier.cuh.
//
// A wait for a phase that has not ended blocks the thread. What is wrong is reported: a barrier
// used before its making is seen, more arrivals than it was made for, bytes that no phase can
// hold, a phase that came and went while a thread waited for it; and where nobody can go on, who
// waits for what.

#pragma once

#include <cstdint>
#include <string>

#include "schedule.h"
#include "shared.h"

namespace emu {

// The number of the mbarrier at a place of shared memory, made and seen by the running thread.
int mbarrier_at(const char* operation, SharedStorage& storage, int64_t at, Where where);
// The same for a copy, which sees it only behind a fence.
int mbarrier_for_copy(SharedStorage& storage, int64_t at, Where where);
// The phase that it is in, from 0.
uint32_t mbarrier_phase(int number);
void complete_bytes(int number, int64_t bytes);
void check_copies_waited_for();  // at a block's end
// "the mbarrier at byte 64 of shared memory, in phase 1 with 2 arrivals and 32 bytes to come"
std::string text_of_mbarrier(int number);

void init_mbarrier(SharedStorage& storage, int64_t at, int arrivals, Where where);
void arrive(SharedStorage& storage, int64_t at, int64_t bytes, Where where);
void wait_for_phase(SharedStorage& storage, int64_t at, uint32_t parity, Where where);
void fence_mbarriers();
void fence_proxy();
void named_barrier(int barrier, int threads, bool waits, Where where);
void set_registers(int registers, bool takes, Where where);

}  // namespace emu

namespace digan {

inline void mbarrier_init(emu::Shared<uint64_t> barrier,
                          int arrivals,
                          emu::Where where = emu::Where::current()) {
  emu::init_mbarrier(barrier.storage(), barrier.at(), arrivals, where);
}

inline void fence_mbarrier_init() {
  emu::fence_mbarriers();
}

inline void mbarrier_arrive(emu::Shared<uint64_t> barrier,
                            emu::Where where = emu::Where::current()) {
  emu::arrive(barrier.storage(), barrier.at(), 0, where);
}

inline void mbarrier_arrive_expect(emu::Shared<uint64_t> barrier,
                                   int bytes,
                                   emu::Where where = emu::Where::current()) {
  emu::arrive(barrier.storage(), barrier.at(), bytes, where);
}

inline void mbarrier_wait(emu::Shared<uint64_t> barrier,
                          uint32_t parity,
                          emu::Where where = emu::Where::current()) {
  emu::wait_for_phase(barrier.storage(), barrier.at(), parity, where);
}

inline void fence_proxy_async() {
  emu::fence_proxy();
}

inline void named_barrier_sync(int barrier, int threads, emu::Where where = emu::Where::current()) {
  emu::named_barrier(barrier, threads, true, where);
}

inline void named_barrier_arrive(int barrier,
                                 int threads,
                                 emu::Where where = emu::Where::current()) {
  emu::named_barrier(barrier, threads, false, where);
}

template <int kRegisters>
void registers_release(emu::Where where = emu::Where::current()) {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
  emu::set_registers(kRegisters, false, where);
}

template <int kRegisters>
void registers_take(emu::Where where = emu::Where::current()) {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
  emu::set_registers(kRegisters, true, where);
}

}  // namespace digan
