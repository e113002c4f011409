// Shuffles and votes. All lanes of the mask must take part, and none may have left.

#pragma once

#include "counters.h"
#include "fault.h"
#include "schedule.h"

namespace emu {

template <class T>
struct Shuffle {
  T value;
  int source;  // lane
  T result;
};

template <class T>
void complete_shuffle(Warp& warp, unsigned mask) {
  ++counters.warp_exchanges;
  for (int i = 0; i < 32; ++i) {
    if ((mask >> i & 1u) == 0) {
      continue;
    }
    auto& mine = *static_cast<Shuffle<T>*>(warp.lanes[i]->operands);
    if ((mask >> mine.source & 1u) == 0) {
      fail("a shuffle reads lane ", mine.source, ", which its mask leaves out, ",
           text_of(warp.lanes[i]->where));
    }
    mine.result = static_cast<Shuffle<T>*>(warp.lanes[mine.source]->operands)->value;
  }
}

template <class T>
T shuffle(const char* name, unsigned mask, T value, int source, Where where) {
  Shuffle<T> mine{value, source, value};
  meet_warp(name, mask, complete_shuffle<T>, &mine, where);
  return mine.result;
}

struct Vote {
  bool value;
  unsigned result;
};

inline unsigned vote(const char* name, unsigned mask, bool value, Where where) {
  Vote mine{value, 0};
  const auto complete = [](Warp& warp, unsigned mask) {
    ++counters.warp_exchanges;
    unsigned votes = 0;
    for (int i = 0; i < 32; ++i) {
      if ((mask >> i & 1u) != 0 && static_cast<Vote*>(warp.lanes[i]->operands)->value) {
        votes |= 1u << i;
      }
    }
    for (int i = 0; i < 32; ++i) {
      if ((mask >> i & 1u) != 0) {
        static_cast<Vote*>(warp.lanes[i]->operands)->result = votes;
      }
    }
  };
  meet_warp(name, mask, complete, &mine, where);
  return mine.result;
}

// Where a source lies outside of the caller's segment of `width` lanes, it gets its own value.
template <class T>
T shuffle_within(const char* name, unsigned mask, T value, int source, int width, Where where) {
  const int lane = self->lane;
  const bool inside = source >= 0 && source / width == lane / width;
  return shuffle(name, mask, value, inside ? source : lane, where);
}

}  // namespace emu

template <class T>
T __shfl_sync(
    unsigned mask, T value, int source, int width = 32, emu::Where where = emu::Where::current()) {
  const int lane = emu::self->lane;
  const int from = lane / width * width + (source & (width - 1));
  return emu::shuffle("__shfl_sync", mask, value, from, where);
}

template <class T>
T __shfl_xor_sync(unsigned mask,
                  T value,
                  int lane_mask,
                  int width = 32,
                  emu::Where where = emu::Where::current()) {
  return emu::shuffle_within("__shfl_xor_sync", mask, value, emu::self->lane ^ lane_mask, width,
                             where);
}

template <class T>
T __shfl_down_sync(unsigned mask,
                   T value,
                   unsigned delta,
                   int width = 32,
                   emu::Where where = emu::Where::current()) {
  return emu::shuffle_within("__shfl_down_sync", mask, value,
                             emu::self->lane + static_cast<int>(delta), width, where);
}

template <class T>
T __shfl_up_sync(unsigned mask,
                 T value,
                 unsigned delta,
                 int width = 32,
                 emu::Where where = emu::Where::current()) {
  return emu::shuffle_within("__shfl_up_sync", mask, value,
                             emu::self->lane - static_cast<int>(delta), width, where);
}

inline unsigned __ballot_sync(unsigned mask, int value, emu::Where where = emu::Where::current()) {
  return emu::vote("__ballot_sync", mask, value != 0, where);
}

inline int __any_sync(unsigned mask, int value, emu::Where where = emu::Where::current()) {
  return emu::vote("__any_sync", mask, value != 0, where) != 0;
}

inline int __all_sync(unsigned mask, int value, emu::Where where = emu::Where::current()) {
  return emu::vote("__all_sync", mask, value != 0, where) == mask;
}
