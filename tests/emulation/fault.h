// What a kernel did wrong, and who reports it.

#pragma once

#include <sstream>
#include <string>

namespace emu {

// Thrown inside a kernel's thread; the launch turns it into cudaErrorLaunchFailure.
struct Fault {
  std::string text;
};

// Throws a Fault that opens with the running kernel, block and thread.
[[noreturn]] void raise_fault(const std::string& what);

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  raise_fault(text.str());
}

// The report of the last launch that failed; empty if none did.
const std::string& last_report();

}  // namespace emu
